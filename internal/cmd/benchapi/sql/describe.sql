SELECT split_part(current_setting('server_version'), ' ', 1), (SELECT count(*) FROM public.task_usage)

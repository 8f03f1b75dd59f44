SELECT count(*) FROM public.task_usage

-- Whether the host has rows in any of the tables that everything else hangs on.
SELECT EXISTS (SELECT FROM public.workspace)
    OR EXISTS (SELECT FROM public."user")
    OR EXISTS (SELECT FROM public.task_usage);

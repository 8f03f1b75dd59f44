-- Tasks of the last day that has any.
SELECT array_agg(task_id) FROM (
    SELECT DISTINCT task_id FROM public.task_usage
    WHERE created_at > (SELECT max(created_at) FROM public.task_usage) - interval '1 day'
    LIMIT $1) x

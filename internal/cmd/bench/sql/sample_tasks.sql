SELECT array_agg(task_id) FROM (
    SELECT task_id FROM (SELECT DISTINCT task_id FROM public.task_usage TABLESAMPLE SYSTEM ($2)) sample
    ORDER BY random() LIMIT $1) x

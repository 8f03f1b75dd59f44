-- The lag of all runtimes but one.
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(d.enqueued_at)), 0)::float8
FROM daybook.task_usage_daily_dirty d
JOIN public.agent_task_queue t ON t.id = d.task_id
WHERE t.runtime_id IS DISTINCT FROM $1

SELECT f.runtime_id, extract(hour FROM f.started_at AT TIME ZONE r.timezone)::smallint AS hour, count(*) AS task_count
FROM plain.task_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2

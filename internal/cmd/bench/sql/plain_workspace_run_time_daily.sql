SELECT workspace_id, (completed_at AT TIME ZONE 'UTC')::date AS bucket_date, project_id, agent_id,
    (extract(epoch FROM sum(completed_at - started_at)) * 1000000)::bigint AS total_microseconds,
    count(*) AS task_count, count(*) FILTER (WHERE failed) AS failed_count
FROM plain.task_fact
WHERE completed_at IS NOT NULL
GROUP BY 1, 2, 3, 4

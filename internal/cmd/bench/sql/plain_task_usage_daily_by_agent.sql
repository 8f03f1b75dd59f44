SELECT f.runtime_id, (f.created_at AT TIME ZONE r.timezone)::date AS bucket_date, f.agent_id, f.provider, f.model,
    sum(f.input_tokens)::bigint AS input_tokens, sum(f.output_tokens)::bigint AS output_tokens,
    sum(f.cache_read_tokens)::bigint AS cache_read_tokens, sum(f.cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT f.task_id) AS task_count
FROM plain.task_usage_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2, 3, 4, 5

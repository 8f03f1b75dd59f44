SELECT workspace_id, (created_at AT TIME ZONE 'UTC')::date AS bucket_date, agent_id, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT task_id) AS day_task_count
FROM plain.task_usage_fact
GROUP BY 1, 2, 3, 4, 5

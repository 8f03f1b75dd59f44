-- The rollups of days as materialized views of the host's tables. What has no project has the nil id, for REFRESH CONCURRENTLY writes
-- rows with a null in their key each time.
CREATE SCHEMA rival;

CREATE VIEW rival.usage AS
SELECT u.task_id, a.workspace_id, t.runtime_id, t.agent_id,
    coalesce(i.project_id, '00000000-0000-0000-0000-000000000000') AS project_id, u.provider, u.model,
    u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.updated_at,
    (u.created_at AT TIME ZONE r.timezone)::date AS local_date,
    date_part('hour', u.created_at AT TIME ZONE r.timezone)::smallint AS local_hour,
    (u.created_at AT TIME ZONE 'UTC')::date AS utc_date
FROM public.task_usage u
JOIN public.agent_task_queue t ON t.id = u.task_id
JOIN public.agent a ON a.id = t.agent_id
JOIN public.agent_runtime r ON r.id = t.runtime_id
LEFT JOIN public.issue i ON i.id = t.issue_id;

CREATE MATERIALIZED VIEW rival.view_daily AS
SELECT runtime_id, local_date AS bucket_date, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens, count(*) AS event_count
FROM rival.usage GROUP BY 1, 2, 3, 4;
CREATE UNIQUE INDEX ON rival.view_daily (runtime_id, bucket_date, provider, model);

CREATE MATERIALIZED VIEW rival.view_by_agent AS
SELECT runtime_id, local_date AS bucket_date, agent_id, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT task_id) AS task_count
FROM rival.usage GROUP BY 1, 2, 3, 4, 5;
CREATE UNIQUE INDEX ON rival.view_by_agent (runtime_id, bucket_date, agent_id, provider, model);

CREATE MATERIALIZED VIEW rival.view_by_hour AS
SELECT runtime_id, local_date AS bucket_date, local_hour AS hour, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT task_id) AS task_count
FROM rival.usage GROUP BY 1, 2, 3, 4, 5;
CREATE UNIQUE INDEX ON rival.view_by_hour (runtime_id, bucket_date, hour, provider, model);

CREATE MATERIALIZED VIEW rival.view_workspace AS
SELECT workspace_id, utc_date AS bucket_date, project_id, agent_id, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT task_id) AS task_count
FROM rival.usage GROUP BY 1, 2, 3, 4, 5, 6;
CREATE UNIQUE INDEX ON rival.view_workspace (workspace_id, bucket_date, project_id, agent_id, provider, model);

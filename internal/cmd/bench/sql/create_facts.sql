-- What a backfill is measured against: the same facts and rollups with the same indexes, each made in one go by CREATE TABLE AS.
CREATE SCHEMA plain;

CREATE TABLE plain.task_fact AS
SELECT t.id AS task_id, a.workspace_id, t.runtime_id, t.agent_id, i.project_id, t.started_at,
    CASE WHEN t.status IN ('completed', 'failed') THEN t.completed_at END AS completed_at, t.status = 'failed' AS failed
FROM public.agent_task_queue t
JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id
WHERE t.started_at IS NOT NULL;
ALTER TABLE plain.task_fact ADD PRIMARY KEY (task_id);
CREATE INDEX ON plain.task_fact (runtime_id);

CREATE TABLE plain.task_usage_fact AS
SELECT u.task_id, u.provider, u.model, a.workspace_id, t.runtime_id, t.agent_id, i.project_id,
    u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.created_at
FROM public.task_usage u
JOIN public.agent_task_queue t ON t.id = u.task_id
JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id;
ALTER TABLE plain.task_usage_fact ADD PRIMARY KEY (task_id, provider, model);
CREATE INDEX ON plain.task_usage_fact (runtime_id, created_at);

CREATE TABLE plain.task_usage_daily AS
SELECT f.runtime_id, (f.created_at AT TIME ZONE r.timezone)::date AS bucket_date, f.provider, f.model,
    sum(f.input_tokens)::bigint AS input_tokens, sum(f.output_tokens)::bigint AS output_tokens,
    sum(f.cache_read_tokens)::bigint AS cache_read_tokens, sum(f.cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count
FROM plain.task_usage_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2, 3, 4;
ALTER TABLE plain.task_usage_daily ADD PRIMARY KEY (runtime_id, bucket_date, provider, model);

CREATE TABLE plain.task_usage_daily_by_agent AS
SELECT f.runtime_id, (f.created_at AT TIME ZONE r.timezone)::date AS bucket_date, f.agent_id, f.provider, f.model,
    sum(f.input_tokens)::bigint AS input_tokens, sum(f.output_tokens)::bigint AS output_tokens,
    sum(f.cache_read_tokens)::bigint AS cache_read_tokens, sum(f.cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT f.task_id) AS task_count
FROM plain.task_usage_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2, 3, 4, 5;
ALTER TABLE plain.task_usage_daily_by_agent ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model);

CREATE TABLE plain.task_usage_daily_by_hour AS
SELECT f.runtime_id, (f.created_at AT TIME ZONE r.timezone)::date AS bucket_date,
    extract(hour FROM f.created_at AT TIME ZONE r.timezone)::smallint AS hour, f.provider, f.model,
    sum(f.input_tokens)::bigint AS input_tokens, sum(f.output_tokens)::bigint AS output_tokens,
    sum(f.cache_read_tokens)::bigint AS cache_read_tokens, sum(f.cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT f.task_id) AS task_count
FROM plain.task_usage_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2, 3, 4, 5;
ALTER TABLE plain.task_usage_daily_by_hour ADD PRIMARY KEY (runtime_id, bucket_date, hour, provider, model);

CREATE TABLE plain.task_activity_by_hour AS
SELECT f.runtime_id, extract(hour FROM f.started_at AT TIME ZONE r.timezone)::smallint AS hour, count(*) AS task_count
FROM plain.task_fact f
JOIN public.agent_runtime r ON r.id = f.runtime_id
GROUP BY 1, 2;
ALTER TABLE plain.task_activity_by_hour ADD PRIMARY KEY (runtime_id, hour);

CREATE TABLE plain.workspace_usage_daily AS
SELECT workspace_id, (created_at AT TIME ZONE 'UTC')::date AS bucket_date, project_id, agent_id, provider, model,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
    count(*) AS event_count, count(DISTINCT task_id) AS day_task_count
FROM plain.task_usage_fact
GROUP BY 1, 2, 3, 4, 5, 6;
CREATE UNIQUE INDEX ON plain.workspace_usage_daily (workspace_id, bucket_date, project_id, agent_id, provider, model) NULLS NOT DISTINCT;

CREATE TABLE plain.workspace_run_time_daily AS
SELECT workspace_id, (completed_at AT TIME ZONE 'UTC')::date AS bucket_date, project_id, agent_id,
    (extract(epoch FROM sum(completed_at - started_at)) * 1000000)::bigint AS total_microseconds,
    count(*) AS task_count, count(*) FILTER (WHERE failed) AS failed_count
FROM plain.task_fact
WHERE completed_at IS NOT NULL
GROUP BY 1, 2, 3, 4;
CREATE UNIQUE INDEX ON plain.workspace_run_time_daily (workspace_id, bucket_date, project_id, agent_id) NULLS NOT DISTINCT;

-- Every way in which a rollup differs from the plain GROUP BY on the host's tables. No row means none.
-- Written without any view or function of Daybook's, so that it shares no mistake with them.
WITH known AS MATERIALIZED (
    SELECT lower(name) AS name FROM pg_catalog.pg_timezone_names
), zone AS (
    SELECT r.id AS runtime_id,
        CASE WHEN EXISTS (SELECT FROM known k WHERE k.name = lower(r.timezone)) THEN r.timezone ELSE 'UTC' END AS timezone
    FROM public.agent_runtime r
), source AS MATERIALIZED (
    SELECT u.task_id, u.provider, u.model, u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens,
        t.runtime_id, t.agent_id, a.workspace_id, i.project_id,
        (u.created_at AT TIME ZONE z.timezone)::date AS local_date,
        extract(hour FROM u.created_at AT TIME ZONE z.timezone)::smallint AS local_hour,
        (u.created_at AT TIME ZONE 'UTC')::date AS utc_date
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    LEFT JOIN zone z ON z.runtime_id = t.runtime_id
), task AS MATERIALIZED (
    SELECT t.*, a.workspace_id, i.project_id, z.timezone
    FROM public.agent_task_queue t
    JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    LEFT JOIN zone z ON z.runtime_id = t.runtime_id
), pair (rollup, side, bucket) AS (
    SELECT 'task_usage_daily', 'expected', to_jsonb(x) FROM (
        SELECT runtime_id, local_date AS bucket_date, provider, model,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
            count(*) AS event_count
        FROM source WHERE runtime_id IS NOT NULL
        GROUP BY runtime_id, local_date, provider, model) x
    UNION ALL
    SELECT 'task_usage_daily', 'found', to_jsonb(b) - '{generation,writes}'::text[] FROM daybook.task_usage_daily b

    UNION ALL
    SELECT 'task_usage_daily_by_agent', 'expected', to_jsonb(x) FROM (
        SELECT runtime_id, local_date AS bucket_date, agent_id, provider, model,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
            count(*) AS event_count
        FROM source WHERE runtime_id IS NOT NULL
        GROUP BY runtime_id, local_date, agent_id, provider, model) x
    UNION ALL
    SELECT 'task_usage_daily_by_agent', 'found', to_jsonb(b) - '{task_count,generation,writes}'::text[] FROM daybook.task_usage_daily_by_agent b

    UNION ALL
    SELECT 'task_usage_daily_by_hour', 'expected', to_jsonb(x) FROM (
        SELECT runtime_id, local_date AS bucket_date, local_hour AS hour, provider, model,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
            count(*) AS event_count
        FROM source WHERE runtime_id IS NOT NULL
        GROUP BY runtime_id, local_date, local_hour, provider, model) x
    UNION ALL
    SELECT 'task_usage_daily_by_hour', 'found', to_jsonb(b) - '{task_count,generation,writes}'::text[] FROM daybook.task_usage_daily_by_hour b

    UNION ALL
    SELECT 'workspace_usage_daily', 'expected', to_jsonb(x) FROM (
        SELECT workspace_id, utc_date AS bucket_date, project_id, agent_id, provider, model,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
            count(*) AS event_count
        FROM source
        GROUP BY workspace_id, utc_date, project_id, agent_id, provider, model) x
    UNION ALL
    SELECT 'workspace_usage_daily', 'found', to_jsonb(b) - '{day_task_count,window_task_count,generation,writes}'::text[]
    FROM daybook.workspace_usage_daily b
    UNION ALL
    SELECT 'workspace_usage_daily_by_agent', 'expected', to_jsonb(x) FROM (
        SELECT workspace_id, utc_date AS bucket_date, agent_id, provider, model,
            sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
            sum(cache_read_tokens)::bigint AS cache_read_tokens, sum(cache_write_tokens)::bigint AS cache_write_tokens,
            count(*) AS event_count
        FROM source
        GROUP BY workspace_id, utc_date, agent_id, provider, model) x
    UNION ALL
    SELECT 'workspace_usage_daily_by_agent', 'found', to_jsonb(b) - '{day_task_count,window_task_count,generation,writes}'::text[]
    FROM daybook.workspace_usage_daily_by_agent b

    -- Distinct tasks in every window that ends now.
    UNION ALL
    SELECT 'task_usage_daily_by_agent tasks', 'expected', to_jsonb(x) FROM (
        SELECT s.runtime_id, d.since, s.agent_id, s.model, count(DISTINCT s.task_id) AS tasks
        FROM (SELECT DISTINCT runtime_id, local_date AS since FROM source) d
        JOIN source s ON s.runtime_id = d.runtime_id AND s.local_date >= d.since
        GROUP BY s.runtime_id, d.since, s.agent_id, s.model) x
    UNION ALL
    SELECT 'task_usage_daily_by_agent tasks', 'found', to_jsonb(x) FROM (
        SELECT b.runtime_id, d.since, b.agent_id, b.model, sum(b.task_count)::bigint AS tasks
        FROM (SELECT DISTINCT runtime_id, local_date AS since FROM source) d
        JOIN daybook.task_usage_daily_by_agent b ON b.runtime_id = d.runtime_id AND b.bucket_date >= d.since
        GROUP BY b.runtime_id, d.since, b.agent_id, b.model) x

    UNION ALL
    SELECT 'task_usage_daily_by_hour tasks', 'expected', to_jsonb(x) FROM (
        SELECT s.runtime_id, d.since, s.local_hour AS hour, s.model, count(DISTINCT s.task_id) AS tasks
        FROM (SELECT DISTINCT runtime_id, local_date AS since FROM source) d
        JOIN source s ON s.runtime_id = d.runtime_id AND s.local_date >= d.since
        GROUP BY s.runtime_id, d.since, s.local_hour, s.model) x
    UNION ALL
    SELECT 'task_usage_daily_by_hour tasks', 'found', to_jsonb(x) FROM (
        SELECT b.runtime_id, d.since, b.hour, b.model, sum(b.task_count)::bigint AS tasks
        FROM (SELECT DISTINCT runtime_id, local_date AS since FROM source) d
        JOIN daybook.task_usage_daily_by_hour b ON b.runtime_id = d.runtime_id AND b.bucket_date >= d.since
        GROUP BY b.runtime_id, d.since, b.hour, b.model) x

    UNION ALL
    SELECT 'workspace_usage_daily window tasks', 'expected', to_jsonb(x) FROM (
        SELECT s.workspace_id, d.since, s.project_id, s.model, count(DISTINCT s.task_id) AS tasks
        FROM (SELECT DISTINCT workspace_id, utc_date AS since FROM source) d
        JOIN source s ON s.workspace_id = d.workspace_id AND s.utc_date >= d.since
        GROUP BY s.workspace_id, d.since, s.project_id, s.model) x
    UNION ALL
    SELECT 'workspace_usage_daily window tasks', 'found', to_jsonb(x) FROM (
        SELECT b.workspace_id, d.since, b.project_id, b.model, sum(b.window_task_count)::bigint AS tasks
        FROM (SELECT DISTINCT workspace_id, utc_date AS since FROM source) d
        JOIN daybook.workspace_usage_daily b ON b.workspace_id = d.workspace_id AND b.bucket_date >= d.since
        GROUP BY b.workspace_id, d.since, b.project_id, b.model) x

    UNION ALL
    SELECT 'workspace_usage_daily day tasks', 'expected', to_jsonb(x) FROM (
        SELECT workspace_id, utc_date AS bucket_date, project_id, model, count(DISTINCT task_id) AS tasks
        FROM source GROUP BY workspace_id, utc_date, project_id, model) x
    UNION ALL
    SELECT 'workspace_usage_daily day tasks', 'found', to_jsonb(x) FROM (
        SELECT workspace_id, bucket_date, project_id, model, sum(day_task_count)::bigint AS tasks
        FROM daybook.workspace_usage_daily GROUP BY workspace_id, bucket_date, project_id, model) x

    UNION ALL
    SELECT 'workspace_usage_daily_by_agent window tasks', 'expected', to_jsonb(x) FROM (
        SELECT s.workspace_id, d.since, s.agent_id, s.model, count(DISTINCT s.task_id) AS tasks
        FROM (SELECT DISTINCT workspace_id, utc_date AS since FROM source) d
        JOIN source s ON s.workspace_id = d.workspace_id AND s.utc_date >= d.since
        GROUP BY s.workspace_id, d.since, s.agent_id, s.model) x
    UNION ALL
    SELECT 'workspace_usage_daily_by_agent window tasks', 'found', to_jsonb(x) FROM (
        SELECT b.workspace_id, d.since, b.agent_id, b.model, sum(b.window_task_count)::bigint AS tasks
        FROM (SELECT DISTINCT workspace_id, utc_date AS since FROM source) d
        JOIN daybook.workspace_usage_daily_by_agent b ON b.workspace_id = d.workspace_id AND b.bucket_date >= d.since
        GROUP BY b.workspace_id, d.since, b.agent_id, b.model) x

    UNION ALL
    SELECT 'workspace_usage_daily_by_agent day tasks', 'expected', to_jsonb(x) FROM (
        SELECT workspace_id, utc_date AS bucket_date, agent_id, model, count(DISTINCT task_id) AS tasks
        FROM source GROUP BY workspace_id, utc_date, agent_id, model) x
    UNION ALL
    SELECT 'workspace_usage_daily_by_agent day tasks', 'found', to_jsonb(x) FROM (
        SELECT workspace_id, bucket_date, agent_id, model, sum(day_task_count)::bigint AS tasks
        FROM daybook.workspace_usage_daily_by_agent GROUP BY workspace_id, bucket_date, agent_id, model) x

    UNION ALL
    SELECT 'task_activity_by_hour', 'expected', to_jsonb(x) FROM (
        SELECT runtime_id, extract(hour FROM started_at AT TIME ZONE timezone)::smallint AS hour, count(*) AS task_count
        FROM task WHERE runtime_id IS NOT NULL AND started_at IS NOT NULL
        GROUP BY 1, 2) x
    UNION ALL
    SELECT 'task_activity_by_hour', 'found', to_jsonb(b) - '{generation,writes}'::text[] FROM daybook.task_activity_by_hour b

    UNION ALL
    SELECT 'workspace_run_time_daily', 'expected', to_jsonb(x) FROM (
        SELECT workspace_id, (completed_at AT TIME ZONE 'UTC')::date AS bucket_date, project_id, agent_id,
            (extract(epoch FROM sum(completed_at - started_at)) * 1000000)::bigint AS total_microseconds,
            count(*) AS task_count, count(*) FILTER (WHERE status = 'failed') AS failed_count
        FROM task
        WHERE status IN ('completed', 'failed') AND started_at IS NOT NULL AND completed_at IS NOT NULL
        GROUP BY 1, 2, 3, 4) x
    UNION ALL
    SELECT 'workspace_run_time_daily', 'found', to_jsonb(b) - '{generation,writes}'::text[] FROM daybook.workspace_run_time_daily b
)
SELECT rollup || ': ' || CASE WHEN sum(CASE side WHEN 'expected' THEN 1 ELSE -1 END) > 0 THEN 'missing ' ELSE 'unexpected ' END || bucket::text
FROM pair
-- Days that are closed stay as they were counted.
WHERE coalesce((coalesce(bucket->>'bucket_date', bucket->>'since'))::date >= (SELECT c.closed_before FROM daybook.coverage c), true)
GROUP BY rollup, bucket
HAVING sum(CASE side WHEN 'expected' THEN 1 ELSE -1 END) <> 0
ORDER BY 1

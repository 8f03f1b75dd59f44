-- Finds the buckets of what was written since the last call and computes them again from the source, all in one statement. Usage of one
-- provider and model that lies close together in time is read once, whichever buckets it is of.
CREATE FUNCTION rival.recompute() RETURNS void
    LANGUAGE plpgsql
    SET jit = off
    SET work_mem = '64MB'
    SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    since timestamptz := (SELECT at FROM rival.watermark);
    till  timestamptz := (SELECT max(updated_at) FROM public.task_usage);
BEGIN
    WITH changed AS MATERIALIZED (
        SELECT a.workspace_id, t.runtime_id, t.agent_id,
            coalesce(i.project_id, '00000000-0000-0000-0000-000000000000') AS project_id, u.provider, u.model, r.timezone,
            (u.created_at AT TIME ZONE r.timezone)::date AS local_date,
            date_part('hour', u.created_at AT TIME ZONE r.timezone)::smallint AS local_hour,
            (u.created_at AT TIME ZONE 'UTC')::date AS utc_date
        FROM public.task_usage u
        JOIN public.agent_task_queue t ON t.id = u.task_id
        JOIN public.agent a ON a.id = t.agent_id
        JOIN public.agent_runtime r ON r.id = t.runtime_id
        LEFT JOIN public.issue i ON i.id = t.issue_id
        WHERE u.updated_at > since AND u.updated_at <= till
    ), span AS MATERIALIZED (
        SELECT provider, model, unnest(range_agg(day)) AS span
        FROM (
            SELECT provider, model, tstzrange(local_date::timestamp AT TIME ZONE timezone, (local_date + 1)::timestamp AT TIME ZONE timezone) AS day
            FROM changed
            UNION
            SELECT provider, model, tstzrange(utc_date::timestamp AT TIME ZONE 'UTC', (utc_date + 1)::timestamp AT TIME ZONE 'UTC')
            FROM changed
        ) days
        GROUP BY provider, model
    ), source AS MATERIALIZED (
        SELECT a.workspace_id, t.runtime_id, t.agent_id,
            coalesce(i.project_id, '00000000-0000-0000-0000-000000000000') AS project_id, s.provider, s.model, u.task_id,
            u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens,
            (u.created_at AT TIME ZONE r.timezone)::date AS local_date,
            date_part('hour', u.created_at AT TIME ZONE r.timezone)::smallint AS local_hour,
            (u.created_at AT TIME ZONE 'UTC')::date AS utc_date
        FROM span s
        CROSS JOIN LATERAL (
            SELECT x.task_id, x.created_at, x.input_tokens, x.output_tokens, x.cache_read_tokens, x.cache_write_tokens
            FROM public.task_usage x
            WHERE x.provider = s.provider AND x.model = s.model AND x.created_at >= lower(s.span) AND x.created_at < upper(s.span)
            OFFSET 0
        ) u
        CROSS JOIN LATERAL (
            SELECT y.runtime_id, y.agent_id, y.issue_id FROM public.agent_task_queue y WHERE y.id = u.task_id OFFSET 0
        ) t
        JOIN public.agent a ON a.id = t.agent_id
        JOIN public.agent_runtime r ON r.id = t.runtime_id
        LEFT JOIN public.issue i ON i.id = t.issue_id
        WHERE (t.runtime_id, (u.created_at AT TIME ZONE r.timezone)::date, s.provider, s.model) IN
                (SELECT c.runtime_id, c.local_date, c.provider, c.model FROM changed c)
            OR (t.agent_id, (u.created_at AT TIME ZONE 'UTC')::date, s.provider, s.model) IN
                (SELECT c.agent_id, c.utc_date, c.provider, c.model FROM changed c)
    ), put_daily AS (
        INSERT INTO rival.daily AS b
        SELECT s.runtime_id, s.local_date, s.provider, s.model,
            sum(s.input_tokens), sum(s.output_tokens), sum(s.cache_read_tokens), sum(s.cache_write_tokens), count(*)
        FROM source s
        WHERE (s.runtime_id, s.local_date, s.provider, s.model) IN (SELECT c.runtime_id, c.local_date, c.provider, c.model FROM changed c)
        GROUP BY 1, 2, 3, 4
        ON CONFLICT (runtime_id, bucket_date, provider, model) DO UPDATE SET
            input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
            cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
            event_count = excluded.event_count
    ), put_by_agent AS (
        INSERT INTO rival.by_agent AS b
        SELECT s.runtime_id, s.local_date, s.agent_id, s.provider, s.model,
            sum(s.input_tokens), sum(s.output_tokens), sum(s.cache_read_tokens), sum(s.cache_write_tokens), count(*), count(DISTINCT s.task_id)
        FROM source s
        WHERE (s.runtime_id, s.local_date, s.agent_id, s.provider, s.model) IN
            (SELECT c.runtime_id, c.local_date, c.agent_id, c.provider, c.model FROM changed c)
        GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (runtime_id, bucket_date, agent_id, provider, model) DO UPDATE SET
            input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
            cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
            event_count = excluded.event_count, task_count = excluded.task_count
    ), put_by_hour AS (
        INSERT INTO rival.by_hour AS b
        SELECT s.runtime_id, s.local_date, s.local_hour, s.provider, s.model,
            sum(s.input_tokens), sum(s.output_tokens), sum(s.cache_read_tokens), sum(s.cache_write_tokens), count(*), count(DISTINCT s.task_id)
        FROM source s
        WHERE (s.runtime_id, s.local_date, s.local_hour, s.provider, s.model) IN
            (SELECT c.runtime_id, c.local_date, c.local_hour, c.provider, c.model FROM changed c)
        GROUP BY 1, 2, 3, 4, 5
        ON CONFLICT (runtime_id, bucket_date, hour, provider, model) DO UPDATE SET
            input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
            cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
            event_count = excluded.event_count, task_count = excluded.task_count
    ), put_workspace AS (
        INSERT INTO rival.workspace AS b
        SELECT s.workspace_id, s.utc_date, s.project_id, s.agent_id, s.provider, s.model,
            sum(s.input_tokens), sum(s.output_tokens), sum(s.cache_read_tokens), sum(s.cache_write_tokens), count(*), count(DISTINCT s.task_id)
        FROM source s
        WHERE (s.workspace_id, s.utc_date, s.project_id, s.agent_id, s.provider, s.model) IN
            (SELECT c.workspace_id, c.utc_date, c.project_id, c.agent_id, c.provider, c.model FROM changed c)
        GROUP BY 1, 2, 3, 4, 5, 6
        ON CONFLICT (workspace_id, bucket_date, project_id, agent_id, provider, model) DO UPDATE SET
            input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
            cache_read_tokens = excluded.cache_read_tokens, cache_write_tokens = excluded.cache_write_tokens,
            event_count = excluded.event_count, task_count = excluded.task_count
    )
    UPDATE rival.watermark SET at = till;
END
$$;

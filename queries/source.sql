-- What the api answers about usage when its source is the host's own tables: the same rows as those of usage.sql, one by one, by a plain
-- GROUP BY that reads no fact and no bucket. It takes as long as the host has rows.
--
-- The bounds on created_at and completed_at are for the host's index. Infinite times fall on no day.

-- name: GetRuntimeUsageFromSource :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, z.timezone, (now() AT TIME ZONE z.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone),
        daybook.effective_zone(r.host_timezone) AS z (timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    true::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    usage.bucket_date::date AS bucket_date, coalesce(usage.provider, '')::text AS provider, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, (u.created_at AT TIME ZONE reader.timezone)::date AS bucket_date, u.provider, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens
    FROM public.agent_task_queue t
    JOIN public.task_usage u ON u.task_id = t.id
    WHERE t.runtime_id = reader.id
      AND u.created_at >= (reader.since - 2)::timestamp AT TIME ZONE reader.timezone AND u.created_at < 'infinity'
      AND (u.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY 2, 3, 4
) usage ON true
ORDER BY usage.bucket_date DESC, usage.provider, usage.model;

-- name: GetRuntimeUsageByAgentFromSource :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, z.timezone, (now() AT TIME ZONE z.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone),
        daybook.effective_zone(r.host_timezone) AS z (timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    true::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    usage.agent_id::uuid AS agent_id, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, t.agent_id, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
        count(DISTINCT u.task_id) AS task_count
    FROM public.agent_task_queue t
    JOIN public.task_usage u ON u.task_id = t.id
    WHERE t.runtime_id = reader.id
      AND u.created_at >= (reader.since - 2)::timestamp AT TIME ZONE reader.timezone AND u.created_at < 'infinity'
      AND (u.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY t.agent_id, u.model
) usage ON true
ORDER BY usage.agent_id, usage.model;

-- name: GetRuntimeUsageByHourFromSource :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, z.timezone, (now() AT TIME ZONE z.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone),
        daybook.effective_zone(r.host_timezone) AS z (timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    true::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    coalesce(usage.hour, 0)::smallint AS hour, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, date_part('hour', u.created_at AT TIME ZONE reader.timezone)::smallint AS hour, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
        count(DISTINCT u.task_id) AS task_count
    FROM public.agent_task_queue t
    JOIN public.task_usage u ON u.task_id = t.id
    WHERE t.runtime_id = reader.id
      AND u.created_at >= (reader.since - 2)::timestamp AT TIME ZONE reader.timezone AND u.created_at < 'infinity'
      AND (u.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY 2, 3
) usage ON true
ORDER BY usage.hour, usage.model;

-- name: GetRuntimeActivityFromSource :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, z.timezone
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone),
        daybook.effective_zone(r.host_timezone) AS z (timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    true::boolean AS built, coalesce(activity.found, false)::boolean AS found,
    coalesce(activity.hour, 0)::smallint AS hour, coalesce(activity.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, date_part('hour', t.started_at AT TIME ZONE reader.timezone)::smallint AS hour, count(*) AS task_count
    FROM public.agent_task_queue t
    WHERE t.runtime_id = reader.id AND isfinite(t.started_at)
    GROUP BY 2
) activity ON true
ORDER BY activity.hour;

-- name: GetWorkspaceUsageDailyFromSource :many
WITH reader AS MATERIALIZED (
    SELECT w.id, w.user_id, (now() AT TIME ZONE 'UTC')::date - (sqlc.arg(days)::integer - 1) AS since
    FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
        AS w (id, user_id, role)
)
SELECT reader.id::uuid AS workspace_id, reader.user_id::uuid AS user_id, coalesce(usage.found, false)::boolean AS found,
    usage.bucket_date::date AS bucket_date, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, (u.created_at AT TIME ZONE 'UTC')::date AS bucket_date, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
        count(DISTINCT u.task_id) AS task_count
    FROM public.agent a
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    JOIN public.task_usage u ON u.task_id = t.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE a.workspace_id = reader.id
      AND u.created_at >= reader.since::timestamp AT TIME ZONE 'UTC' AND u.created_at < 'infinity'
      AND (sqlc.narg(project_id)::uuid IS NULL OR i.project_id = sqlc.narg(project_id))
    GROUP BY 2, 3
) usage ON true
ORDER BY usage.bucket_date DESC, usage.model;

-- name: GetWorkspaceUsageSummaryFromSource :many
WITH reader AS MATERIALIZED (
    SELECT w.id, w.user_id, (now() AT TIME ZONE 'UTC')::date - (sqlc.arg(days)::integer - 1) AS since
    FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
        AS w (id, user_id, role)
)
SELECT reader.id::uuid AS workspace_id, reader.user_id::uuid AS user_id, coalesce(usage.found, false)::boolean AS found,
    coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
        count(DISTINCT u.task_id) AS task_count, sum(u.input_tokens) + sum(u.output_tokens) AS tokens
    FROM public.agent a
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    JOIN public.task_usage u ON u.task_id = t.id
    WHERE a.workspace_id = reader.id
      AND u.created_at >= reader.since::timestamp AT TIME ZONE 'UTC' AND u.created_at < 'infinity'
    GROUP BY u.model
) usage ON true
ORDER BY usage.tokens DESC, usage.model;

-- name: GetWorkspaceUsageByAgentFromSource :many
WITH reader AS MATERIALIZED (
    SELECT w.id, w.user_id, (now() AT TIME ZONE 'UTC')::date - (sqlc.arg(days)::integer - 1) AS since
    FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
        AS w (id, user_id, role)
)
SELECT reader.id::uuid AS workspace_id, reader.user_id::uuid AS user_id, coalesce(usage.found, false)::boolean AS found,
    usage.agent_id::uuid AS agent_id, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, t.agent_id, u.model,
        sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
        count(DISTINCT u.task_id) AS task_count
    FROM public.agent a
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    JOIN public.task_usage u ON u.task_id = t.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE a.workspace_id = reader.id
      AND u.created_at >= reader.since::timestamp AT TIME ZONE 'UTC' AND u.created_at < 'infinity'
      AND (sqlc.narg(project_id)::uuid IS NULL OR i.project_id = sqlc.narg(project_id))
    GROUP BY t.agent_id, u.model
) usage ON true
ORDER BY usage.agent_id, usage.model;

-- name: GetWorkspaceRunTimeByAgentFromSource :many
WITH reader AS MATERIALIZED (
    SELECT w.id, w.user_id, (now() AT TIME ZONE 'UTC')::date - (sqlc.arg(days)::integer - 1) AS since
    FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
        AS w (id, user_id, role)
)
SELECT reader.id::uuid AS workspace_id, reader.user_id::uuid AS user_id, coalesce(run_time.found, false)::boolean AS found,
    run_time.agent_id::uuid AS agent_id, coalesce(run_time.total_seconds, 0)::bigint AS total_seconds,
    coalesce(run_time.task_count, 0)::bigint AS task_count, coalesce(run_time.failed_count, 0)::bigint AS failed_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, t.agent_id, round(extract(epoch FROM sum(t.completed_at - t.started_at)))::bigint AS total_seconds,
        count(*) AS task_count, count(*) FILTER (WHERE t.status::text = 'failed') AS failed_count
    FROM public.agent a
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE a.workspace_id = reader.id AND t.status::text IN ('completed', 'failed') AND isfinite(t.started_at)
      AND t.completed_at >= reader.since::timestamp AT TIME ZONE 'UTC' AND t.completed_at < 'infinity'
      AND (sqlc.narg(project_id)::uuid IS NULL OR i.project_id = sqlc.narg(project_id))
    GROUP BY t.agent_id
) run_time ON true
ORDER BY run_time.total_seconds DESC, run_time.agent_id;

-- name: GetWorkspaceRunTimeDailyFromSource :many
WITH reader AS MATERIALIZED (
    SELECT w.id, w.user_id, (now() AT TIME ZONE 'UTC')::date - (sqlc.arg(days)::integer - 1) AS since
    FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
        AS w (id, user_id, role)
)
SELECT reader.id::uuid AS workspace_id, reader.user_id::uuid AS user_id, coalesce(run_time.found, false)::boolean AS found,
    run_time.bucket_date::date AS bucket_date, coalesce(run_time.total_seconds, 0)::bigint AS total_seconds,
    coalesce(run_time.task_count, 0)::bigint AS task_count, coalesce(run_time.failed_count, 0)::bigint AS failed_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, (t.completed_at AT TIME ZONE 'UTC')::date AS bucket_date,
        round(extract(epoch FROM sum(t.completed_at - t.started_at)))::bigint AS total_seconds,
        count(*) AS task_count, count(*) FILTER (WHERE t.status::text = 'failed') AS failed_count
    FROM public.agent a
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE a.workspace_id = reader.id AND t.status::text IN ('completed', 'failed') AND isfinite(t.started_at)
      AND t.completed_at >= reader.since::timestamp AT TIME ZONE 'UTC' AND t.completed_at < 'infinity'
      AND (sqlc.narg(project_id)::uuid IS NULL OR i.project_id = sqlc.narg(project_id))
    GROUP BY 2
) run_time ON true
ORDER BY run_time.bucket_date DESC;

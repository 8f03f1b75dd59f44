-- What the api answers about usage, from the rollups. Each endpoint is one statement, so that an answer comes from one snapshot
-- and costs one round trip. If the caller may not see what is asked for, or there is none, there is no row; if it has no
-- usage in the window, there is one row with found = false.
--
-- While the buckets are not in the host's present zone, that is, a rebuild is pending, the facts answer in their place: the second
-- half of each UNION ALL. There the bound on the day in UTC is for the index: Postgres takes no zone that is further than a week from
-- UTC, and two days more are more than any zone's clocks have ever jumped. The reader is MATERIALIZED, or the zone would be worked out again
-- for every row. What is summed up is summed by the numbers of names first, since there are fewer of them than rows.

-- name: GetRuntimeUsage :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, r.built, r.timezone, (now() AT TIME ZONE r.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    reader.built::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    usage.bucket_date::date AS bucket_date, coalesce(usage.provider, '')::text AS provider, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, b.bucket_date, n.provider, n.model,
        b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens
    FROM daybook.bucket_usage_daily b
    JOIN daybook.usage_name n ON n.id = b.name_id
    WHERE reader.built AND b.runtime_id = reader.id AND b.bucket_date >= reader.since
    UNION ALL
    SELECT true, (f.created_at AT TIME ZONE reader.timezone)::date AS bucket_date, n.provider, n.model,
        sum(f.input_tokens)::bigint, sum(f.output_tokens)::bigint, sum(f.cache_read_tokens)::bigint, sum(f.cache_write_tokens)::bigint
    FROM daybook.dimension d
    JOIN daybook.ledger_usage f ON f.dimension_id = d.id
    JOIN daybook.usage_name n ON n.id = f.name_id
    WHERE NOT reader.built AND d.runtime_id = reader.id
      AND (f.created_at AT TIME ZONE 'UTC')::date >= reader.since - 9
      AND (f.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY 2, 3, 4
) usage ON true
ORDER BY usage.bucket_date DESC, usage.provider, usage.model;

-- name: GetRuntimeUsageByAgent :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, r.built, r.timezone, (now() AT TIME ZONE r.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    reader.built::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    usage.agent_id::uuid AS agent_id, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, x.agent_id, n.model,
        sum(x.input_tokens)::bigint AS input_tokens, sum(x.output_tokens)::bigint AS output_tokens,
        sum(x.cache_read_tokens)::bigint AS cache_read_tokens, sum(x.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(x.task_count)::bigint AS task_count
    FROM (
        SELECT b.agent_id, b.name_id, sum(b.input_tokens) AS input_tokens, sum(b.output_tokens) AS output_tokens,
            sum(b.cache_read_tokens) AS cache_read_tokens, sum(b.cache_write_tokens) AS cache_write_tokens, sum(b.task_count) AS task_count
        FROM daybook.bucket_usage_by_agent b
        WHERE reader.built AND b.runtime_id = reader.id AND b.bucket_date >= reader.since
        GROUP BY b.agent_id, b.name_id
    ) x
    JOIN daybook.usage_name n ON n.id = x.name_id
    GROUP BY x.agent_id, n.model
    UNION ALL
    SELECT true, d.agent_id, n.model,
        sum(f.input_tokens)::bigint, sum(f.output_tokens)::bigint, sum(f.cache_read_tokens)::bigint, sum(f.cache_write_tokens)::bigint,
        count(DISTINCT f.task_id)
    FROM daybook.dimension d
    JOIN daybook.ledger_usage f ON f.dimension_id = d.id
    JOIN daybook.usage_name n ON n.id = f.name_id
    WHERE NOT reader.built AND d.runtime_id = reader.id
      AND (f.created_at AT TIME ZONE 'UTC')::date >= reader.since - 9
      AND (f.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY d.agent_id, n.model
) usage ON true
ORDER BY usage.agent_id, usage.model;

-- name: GetRuntimeUsageByHour :many
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, r.built, r.timezone, (now() AT TIME ZONE r.timezone)::date - @days::integer AS since
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    reader.built::boolean AS built, coalesce(usage.found, false)::boolean AS found,
    coalesce(usage.hour, 0)::smallint AS hour, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens, coalesce(usage.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, x.hour, n.model,
        sum(x.input_tokens)::bigint AS input_tokens, sum(x.output_tokens)::bigint AS output_tokens,
        sum(x.cache_read_tokens)::bigint AS cache_read_tokens, sum(x.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(x.task_count)::bigint AS task_count
    FROM (
        SELECT b.hour, b.name_id, sum(b.input_tokens) AS input_tokens, sum(b.output_tokens) AS output_tokens,
            sum(b.cache_read_tokens) AS cache_read_tokens, sum(b.cache_write_tokens) AS cache_write_tokens, sum(b.task_count) AS task_count
        FROM daybook.bucket_usage_by_hour b
        WHERE reader.built AND b.runtime_id = reader.id AND b.bucket_date >= reader.since
        GROUP BY b.hour, b.name_id
    ) x
    JOIN daybook.usage_name n ON n.id = x.name_id
    GROUP BY x.hour, n.model
    UNION ALL
    SELECT true, date_part('hour', f.created_at AT TIME ZONE reader.timezone)::smallint, n.model,
        sum(f.input_tokens)::bigint, sum(f.output_tokens)::bigint, sum(f.cache_read_tokens)::bigint, sum(f.cache_write_tokens)::bigint,
        count(DISTINCT f.task_id)
    FROM daybook.dimension d
    JOIN daybook.ledger_usage f ON f.dimension_id = d.id
    JOIN daybook.usage_name n ON n.id = f.name_id
    WHERE NOT reader.built AND d.runtime_id = reader.id
      AND (f.created_at AT TIME ZONE 'UTC')::date >= reader.since - 9
      AND (f.created_at AT TIME ZONE reader.timezone)::date >= reader.since
    GROUP BY 2, 3
) usage ON true
ORDER BY usage.hour, usage.model;

-- name: GetRuntimeActivity :many
-- In no order; the reader sorts in less time. With OFFSET 0 Postgres does not see where the hour comes from. Else it expects as many hours as there
-- are starts, and for each question makes a hash table for so many, whether it counts facts or not.
WITH reader AS MATERIALIZED (
    SELECT r.id, r.workspace_id, r.user_id, r.built, r.timezone
    FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
        AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
)
SELECT reader.workspace_id::uuid AS workspace_id, reader.user_id::uuid AS user_id, reader.timezone::text AS timezone,
    reader.built::boolean AS built, coalesce(activity.found, false)::boolean AS found,
    coalesce(activity.hour, 0)::smallint AS hour, coalesce(activity.task_count, 0)::bigint AS task_count
FROM reader
LEFT JOIN LATERAL (
    SELECT true AS found, b.hour, b.task_count
    FROM daybook.task_activity_by_hour b
    WHERE reader.built AND b.runtime_id = reader.id
    UNION ALL
    SELECT true, l.hour, count(*)
    FROM daybook.dimension d
    JOIN daybook.ledger_task f ON f.dimension_id = d.id
    CROSS JOIN LATERAL (SELECT date_part('hour', f.started_at AT TIME ZONE reader.timezone)::smallint AS hour OFFSET 0) l
    WHERE NOT reader.built AND d.runtime_id = reader.id
    GROUP BY l.hour
) activity ON true;

-- Of workspaces. Their days are UTC, so no rebuild is ever pending.

-- name: GetWorkspaceUsageDaily :many
-- Of all projects, or of one, each from a rollup of its own. A task has one project and one agent, so its day counts in one bucket of a day and model.
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
    SELECT true AS found, b.bucket_date, n.model,
        sum(b.input_tokens)::bigint AS input_tokens, sum(b.output_tokens)::bigint AS output_tokens,
        sum(b.cache_read_tokens)::bigint AS cache_read_tokens, sum(b.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(b.day_task_count)::bigint AS task_count
    FROM (
        SELECT x.bucket_date, x.name_id, sum(x.input_tokens) AS input_tokens, sum(x.output_tokens) AS output_tokens,
            sum(x.cache_read_tokens) AS cache_read_tokens, sum(x.cache_write_tokens) AS cache_write_tokens, sum(x.day_task_count) AS day_task_count
        FROM daybook.bucket_workspace_usage_by_agent x
        WHERE x.workspace_id = reader.id AND x.bucket_date >= reader.since AND sqlc.narg(project_id)::uuid IS NULL
        GROUP BY x.bucket_date, x.name_id
        UNION ALL
        SELECT x.bucket_date, x.name_id, sum(x.input_tokens), sum(x.output_tokens),
            sum(x.cache_read_tokens), sum(x.cache_write_tokens), sum(x.day_task_count)
        FROM daybook.bucket_workspace_usage x
        WHERE x.workspace_id = reader.id AND x.bucket_date >= reader.since AND x.project_id = sqlc.narg(project_id)
        GROUP BY x.bucket_date, x.name_id
    ) b
    JOIN daybook.usage_name n ON n.id = b.name_id
    GROUP BY b.bucket_date, n.model
) usage ON true
ORDER BY usage.bucket_date DESC, usage.model;

-- name: GetWorkspaceUsageSummary :many
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
    SELECT true AS found, n.model,
        sum(b.input_tokens)::bigint AS input_tokens, sum(b.output_tokens)::bigint AS output_tokens,
        sum(b.cache_read_tokens)::bigint AS cache_read_tokens, sum(b.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(b.window_task_count)::bigint AS task_count, sum(b.input_tokens) + sum(b.output_tokens) AS tokens
    FROM (
        SELECT x.name_id, sum(x.input_tokens) AS input_tokens, sum(x.output_tokens) AS output_tokens,
            sum(x.cache_read_tokens) AS cache_read_tokens, sum(x.cache_write_tokens) AS cache_write_tokens, sum(x.window_task_count) AS window_task_count
        FROM daybook.bucket_workspace_usage_by_agent x
        WHERE x.workspace_id = reader.id AND x.bucket_date >= reader.since
        GROUP BY x.name_id
    ) b
    JOIN daybook.usage_name n ON n.id = b.name_id
    GROUP BY n.model
) usage ON true
ORDER BY usage.tokens DESC, usage.model;

-- name: GetWorkspaceUsageByAgent :many
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
    SELECT true AS found, b.agent_id, n.model,
        sum(b.input_tokens)::bigint AS input_tokens, sum(b.output_tokens)::bigint AS output_tokens,
        sum(b.cache_read_tokens)::bigint AS cache_read_tokens, sum(b.cache_write_tokens)::bigint AS cache_write_tokens,
        sum(b.window_task_count)::bigint AS task_count
    FROM (
        SELECT x.agent_id, x.name_id, sum(x.input_tokens) AS input_tokens, sum(x.output_tokens) AS output_tokens,
            sum(x.cache_read_tokens) AS cache_read_tokens, sum(x.cache_write_tokens) AS cache_write_tokens, sum(x.window_task_count) AS window_task_count
        FROM daybook.bucket_workspace_usage_by_agent x
        WHERE x.workspace_id = reader.id AND x.bucket_date >= reader.since AND sqlc.narg(project_id)::uuid IS NULL
        GROUP BY x.agent_id, x.name_id
        UNION ALL
        SELECT x.agent_id, x.name_id, sum(x.input_tokens), sum(x.output_tokens),
            sum(x.cache_read_tokens), sum(x.cache_write_tokens), sum(x.window_task_count)
        FROM daybook.bucket_workspace_usage x
        WHERE x.workspace_id = reader.id AND x.bucket_date >= reader.since AND x.project_id = sqlc.narg(project_id)
        GROUP BY x.agent_id, x.name_id
    ) b
    JOIN daybook.usage_name n ON n.id = b.name_id
    GROUP BY b.agent_id, n.model
) usage ON true
ORDER BY usage.agent_id, usage.model;

-- name: GetWorkspaceRunTimeByAgent :many
-- Seconds are rounded once, half away from zero.
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
    SELECT true AS found, b.agent_id, round(sum(b.total_microseconds) / 1000000)::bigint AS total_seconds,
        sum(b.task_count)::bigint AS task_count, sum(b.failed_count)::bigint AS failed_count
    FROM daybook.workspace_run_time_daily b
    WHERE b.workspace_id = reader.id AND b.bucket_date >= reader.since
      AND (sqlc.narg(project_id)::uuid IS NULL OR b.project_id = sqlc.narg(project_id))
    GROUP BY b.agent_id
) run_time ON true
ORDER BY run_time.total_seconds DESC, run_time.agent_id;

-- name: GetWorkspaceRunTimeDaily :many
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
    SELECT true AS found, b.bucket_date, round(sum(b.total_microseconds) / 1000000)::bigint AS total_seconds,
        sum(b.task_count)::bigint AS task_count, sum(b.failed_count)::bigint AS failed_count
    FROM daybook.workspace_run_time_daily b
    WHERE b.workspace_id = reader.id AND b.bucket_date >= reader.since
      AND (sqlc.narg(project_id)::uuid IS NULL OR b.project_id = sqlc.narg(project_id))
    GROUP BY b.bucket_date
) run_time ON true
ORDER BY run_time.bucket_date DESC;

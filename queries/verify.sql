-- The statements of one verification, in one snapshot (REPEATABLE READ). They compare and write nothing.
--
-- A difference is one row: what must be there, what is there, and either is null if there should be nothing or is nothing.

-- The first two come before the snapshot is taken, for neither takes one. A table that is truncated after a snapshot looks empty in it,
-- though the entry that says so is not in it, so the tables are locked first, in the mode of any reader.

-- name: LimitVerifyLocks :exec
SET LOCAL lock_timeout = '900ms';

-- name: LockSource :exec
LOCK TABLE public.agent, public.agent_runtime, public.agent_task_queue, public.issue, public.task_usage IN ACCESS SHARE MODE;

-- name: PrepareVerify :exec
-- Plans must fit the runtimes in hand, and a policy that hides rows must be an error and not a difference.
SELECT set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
    set_config('statement_timeout', '0', true),
    set_config('row_security', 'off', true),
    set_config('work_mem', @work_mem::text, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    -- To compile these statements takes longer than it saves.
    set_config('jit', 'off', true),
    -- The host's cores are the host's.
    set_config('max_parallel_workers_per_gather', '0', true),
    set_config('client_connection_check_interval', '1s', true);

-- name: TryLockVerify :one
-- One worker at a time verifies a unit by itself.
SELECT pg_try_advisory_xact_lock(@lock_class::integer, pg_catalog.uuid_hash(@unit::uuid));

-- name: ListCountedRuntimes :many
-- Every runtime that the host or a rollup knows, in order. The tables of Daybook are long, so their runtimes are found by one index
-- probe each.
WITH RECURSIVE daily AS (
    (SELECT b.runtime_id FROM daybook.bucket_usage_daily b ORDER BY b.runtime_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.runtime_id FROM daybook.bucket_usage_daily b WHERE b.runtime_id > n.runtime_id ORDER BY b.runtime_id LIMIT 1)
    FROM daily n WHERE n.runtime_id IS NOT NULL
), by_agent AS (
    (SELECT b.runtime_id FROM daybook.bucket_usage_by_agent b ORDER BY b.runtime_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.runtime_id FROM daybook.bucket_usage_by_agent b WHERE b.runtime_id > n.runtime_id ORDER BY b.runtime_id LIMIT 1)
    FROM by_agent n WHERE n.runtime_id IS NOT NULL
), by_hour AS (
    (SELECT b.runtime_id FROM daybook.bucket_usage_by_hour b ORDER BY b.runtime_id LIMIT 1)
    UNION ALL
    SELECT (SELECT b.runtime_id FROM daybook.bucket_usage_by_hour b WHERE b.runtime_id > n.runtime_id ORDER BY b.runtime_id LIMIT 1)
    FROM by_hour n WHERE n.runtime_id IS NOT NULL
)
SELECT known.runtime_id::uuid AS runtime_id
FROM (
    SELECT h.id AS runtime_id FROM public.agent_runtime h
    UNION SELECT r.runtime_id FROM daybook.runtime_rollup r
    UNION SELECT b.runtime_id FROM daybook.task_activity_by_hour b
    UNION SELECT d.runtime_id FROM daybook.dimension d
    WHERE EXISTS (SELECT FROM daybook.ledger_usage f WHERE f.dimension_id = d.id)
       OR EXISTS (SELECT FROM daybook.ledger_task f WHERE f.dimension_id = d.id)
    UNION SELECT runtime_id FROM daily
    UNION SELECT runtime_id FROM by_agent
    UNION SELECT runtime_id FROM by_hour
) known
WHERE known.runtime_id IS NOT NULL
ORDER BY known.runtime_id;

-- name: ListRuntimesOfWorkspace :many
-- Its own, and others on which its agents have worked.
SELECT own.id::uuid AS id
FROM (
    SELECT h.id FROM public.agent_runtime h WHERE h.workspace_id = @workspace_id
    UNION
    SELECT t.runtime_id FROM public.agent a JOIN public.agent_task_queue t ON t.agent_id = a.id
    WHERE a.workspace_id = @workspace_id AND t.runtime_id IS NOT NULL
) own
ORDER BY own.id;

-- name: IsWorkspaceKnown :one
SELECT (EXISTS (SELECT FROM public.workspace w WHERE w.id = @workspace_id)
    OR EXISTS (SELECT FROM daybook.bucket_workspace_usage b WHERE b.workspace_id = @workspace_id)
    OR EXISTS (SELECT FROM daybook.workspace_run_time_daily b WHERE b.workspace_id = @workspace_id))::boolean AS known;

-- name: CountLeftOut :one
-- What a comparison of facts leaves out: tasks in quarantine, and entries that wait, counted up to max_count.
SELECT (SELECT count(*) FROM daybook.task_usage_daily_quarantine) AS quarantined,
    (SELECT count(*) FROM (SELECT FROM daybook.task_usage_daily_dirty LIMIT @max_count) capped) AS waiting;

-- name: IsAllDirty :one
-- After a TRUNCATE, until it is expanded, there is no telling which facts are waiting to be corrected.
SELECT EXISTS (SELECT FROM daybook.dirty_scope WHERE kind = 'all') AS all_dirty;

-- name: CompareFacts :many
-- The ledger and the source, for tasks of the runtimes, and of no runtime if asked for. Left out are tasks that wait to be counted, and
-- those in quarantine, whose last good facts stay. Counts of the source are compared as the type that the host has: one that does not
-- fit a fact is a difference, and not an error that keeps others from being compared. So is a fact that is there twice.
WITH waiting AS MATERIALIZED (
    SELECT d.task_id FROM daybook.task_usage_daily_dirty d
    UNION
    SELECT q.task_id FROM daybook.task_usage_daily_quarantine q
    UNION
    SELECT t.id FROM daybook.dirty_scope s JOIN public.agent_task_queue t ON t.issue_id = s.key WHERE s.kind = 'issue'
    UNION
    SELECT t.id FROM daybook.dirty_scope s JOIN public.agent_task_queue t ON t.agent_id = s.key WHERE s.kind = 'agent'
), task AS MATERIALIZED (
    SELECT t.id AS task_id, a.workspace_id, t.runtime_id, t.agent_id, i.project_id, t.started_at,
        CASE WHEN t.status::text IN ('completed', 'failed') THEN t.completed_at END AS completed_at,
        coalesce(t.status::text = 'failed' AND t.completed_at IS NOT NULL, false) AS failed
    FROM public.agent_task_queue t
    LEFT JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE (t.runtime_id = ANY(@runtime_ids::uuid[]) OR (@without_runtime::boolean AND t.runtime_id IS NULL))
      AND NOT EXISTS (SELECT FROM waiting w WHERE w.task_id = t.id)
), usage_pair AS (
    SELECT coalesce(s.task_id, f.task_id) AS task_id, to_jsonb(s) AS expected, to_jsonb(f) AS found
    FROM (
        SELECT t.task_id, coalesce(u.provider, '') AS provider, coalesce(u.model, '') AS model, t.workspace_id, t.runtime_id, t.agent_id, t.project_id,
            coalesce(u.input_tokens, 0) AS input_tokens, coalesce(u.output_tokens, 0) AS output_tokens,
            coalesce(u.cache_read_tokens, 0) AS cache_read_tokens, coalesce(u.cache_write_tokens, 0) AS cache_write_tokens,
            u.created_at
        FROM task t
        JOIN public.task_usage u ON u.task_id = t.task_id
        WHERE coalesce(u.created_at >= (SELECT daybook.kept_from()), true)
    ) s
    FULL JOIN (
        SELECT f.task_id, n.provider, n.model, d.workspace_id, d.runtime_id, d.agent_id, d.project_id,
            f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
            f.generation > 0 AND EXISTS (
                SELECT FROM daybook.ledger_usage y
                WHERE y.task_id = f.task_id AND y.name_id = f.name_id AND y.generation <> f.generation) AS twin
        FROM daybook.ledger_usage f
        JOIN daybook.usage_name n ON n.id = f.name_id
        JOIN daybook.dimension d ON d.id = f.dimension_id
        WHERE (d.runtime_id = ANY(@runtime_ids::uuid[]) OR (@without_runtime::boolean AND d.runtime_id IS NULL))
          AND coalesce(f.created_at >= (SELECT daybook.kept_from()), true)
    ) f ON f.task_id = s.task_id AND f.provider = s.provider AND f.model = s.model
    WHERE s.task_id IS NULL OR f.task_id IS NULL
       OR s.input_tokens <> f.input_tokens OR s.output_tokens <> f.output_tokens
       OR s.cache_read_tokens <> f.cache_read_tokens OR s.cache_write_tokens <> f.cache_write_tokens
       OR s.created_at IS DISTINCT FROM f.created_at OR s.runtime_id IS DISTINCT FROM f.runtime_id
       OR s.agent_id IS DISTINCT FROM f.agent_id OR s.workspace_id IS DISTINCT FROM f.workspace_id
       OR s.project_id IS DISTINCT FROM f.project_id OR f.twin
), task_pair AS (
    SELECT coalesce(s.task_id, f.task_id) AS task_id, to_jsonb(s) AS expected, to_jsonb(f) AS found
    FROM (SELECT t.* FROM task t WHERE t.started_at IS NOT NULL) s
    FULL JOIN (
        SELECT f.task_id, d.workspace_id, d.runtime_id, d.agent_id, d.project_id, f.started_at, f.completed_at, f.failed
        FROM daybook.ledger_task f
        JOIN daybook.dimension d ON d.id = f.dimension_id
        WHERE d.runtime_id = ANY(@runtime_ids::uuid[]) OR (@without_runtime::boolean AND d.runtime_id IS NULL)
    ) f ON f.task_id = s.task_id
    WHERE s.task_id IS NULL OR f.task_id IS NULL
       OR s.started_at <> f.started_at OR s.completed_at IS DISTINCT FROM f.completed_at OR s.failed <> f.failed
       OR s.runtime_id IS DISTINCT FROM f.runtime_id OR s.agent_id IS DISTINCT FROM f.agent_id
       OR s.workspace_id IS DISTINCT FROM f.workspace_id OR s.project_id IS DISTINCT FROM f.project_id
)
SELECT pair.rollup::text AS rollup, pair.task_id::uuid AS task_id, pair.expected, (pair.found - '{twin}'::text[])::jsonb AS found
FROM (
    (SELECT 'task_fact' AS rollup, p.* FROM task_pair p
     WHERE NOT EXISTS (SELECT FROM waiting w WHERE w.task_id = p.task_id) LIMIT @max_differences)
    UNION ALL
    (SELECT 'task_usage_fact', p.* FROM usage_pair p
     WHERE NOT EXISTS (SELECT FROM waiting w WHERE w.task_id = p.task_id) LIMIT @max_differences)
) pair
ORDER BY pair.rollup, pair.task_id;

-- name: CompareRuntimeBuckets :many
-- The rollups in runtimes' zones and the facts that make them, and the zones themselves. A zone that the host has changed is not a
-- difference: its rebuild is requested, or will be. The rows of one runtime, for a repair is a rebuild of it. A bucket with two rows, of two
-- generations, differs whatever they say.
-- usage is the facts summed up so far that all three rollups can be made of it: there is less of it than of them.
WITH fact AS (
    SELECT c.runtime_id, c.local_at::date AS local_date, date_part('hour', c.local_at)::smallint AS local_hour, c.agent_id, c.name_id,
        c.input_tokens, c.output_tokens, c.cache_read_tokens, c.cache_write_tokens, c.counts_in_agent, c.counts_in_hour
    FROM daybook.usage_contribution c
    WHERE c.runtime_id = ANY(@runtime_ids::uuid[])
    OFFSET 0 -- Or the instant would be converted for each use of its date.
), usage AS MATERIALIZED (
    SELECT c.runtime_id, c.local_date, c.local_hour, c.agent_id, c.name_id,
        sum(c.input_tokens) AS input_tokens, sum(c.output_tokens) AS output_tokens,
        sum(c.cache_read_tokens) AS cache_read_tokens, sum(c.cache_write_tokens) AS cache_write_tokens, count(*) AS facts,
        count(*) FILTER (WHERE c.counts_in_agent) AS tasks_of_agent, count(*) FILTER (WHERE c.counts_in_hour) AS tasks_of_hour
    FROM fact c
    WHERE c.local_date >= (SELECT daybook.closed_before())
    GROUP BY c.runtime_id, c.local_date, c.local_hour, c.agent_id, c.name_id
), daily AS (
    SELECT coalesce(e.runtime_id, b.runtime_id) AS runtime_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT u.runtime_id, u.local_date AS bucket_date, u.name_id,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, sum(u.facts) AS event_count
        FROM usage u
        GROUP BY u.runtime_id, u.local_date, u.name_id
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND EXISTS (
                SELECT FROM daybook.bucket_usage_daily y
                WHERE y.runtime_id = x.runtime_id AND y.bucket_date = x.bucket_date AND y.name_id = x.name_id
                  AND y.generation <> x.generation) AS twin
        FROM daybook.bucket_usage_daily x
        WHERE x.runtime_id = ANY(@runtime_ids::uuid[]) AND x.bucket_date >= (SELECT daybook.closed_before())
    ) b
        ON b.runtime_id = e.runtime_id AND b.bucket_date = e.bucket_date AND b.name_id = e.name_id
    WHERE (e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.event_count)
        IS DISTINCT FROM (b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count) OR b.twin
), by_agent AS (
    SELECT coalesce(e.runtime_id, b.runtime_id) AS runtime_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT u.runtime_id, u.local_date AS bucket_date, u.agent_id, u.name_id,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, sum(u.facts) AS event_count,
            sum(u.tasks_of_agent) AS task_count
        FROM usage u
        GROUP BY u.runtime_id, u.local_date, u.agent_id, u.name_id
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND EXISTS (
                SELECT FROM daybook.bucket_usage_by_agent y
                WHERE y.runtime_id = x.runtime_id AND y.bucket_date = x.bucket_date AND y.agent_id = x.agent_id
                  AND y.name_id = x.name_id AND y.generation <> x.generation) AS twin
        FROM daybook.bucket_usage_by_agent x
        WHERE x.runtime_id = ANY(@runtime_ids::uuid[]) AND x.bucket_date >= (SELECT daybook.closed_before())
    ) b
        ON b.runtime_id = e.runtime_id AND b.bucket_date = e.bucket_date AND b.agent_id = e.agent_id AND b.name_id = e.name_id
    WHERE (e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.event_count, e.task_count)
        IS DISTINCT FROM (b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.task_count) OR b.twin
), by_hour AS (
    SELECT coalesce(e.runtime_id, b.runtime_id) AS runtime_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT u.runtime_id, u.local_date AS bucket_date, u.local_hour AS hour, u.name_id,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, sum(u.facts) AS event_count,
            sum(u.tasks_of_hour) AS task_count
        FROM usage u
        GROUP BY u.runtime_id, u.local_date, u.local_hour, u.name_id
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND EXISTS (
                SELECT FROM daybook.bucket_usage_by_hour y
                WHERE y.runtime_id = x.runtime_id AND y.bucket_date = x.bucket_date AND y.hour = x.hour AND y.name_id = x.name_id AND y.generation <> x.generation) AS twin
        FROM daybook.bucket_usage_by_hour x
        WHERE x.runtime_id = ANY(@runtime_ids::uuid[]) AND x.bucket_date >= (SELECT daybook.closed_before())
    ) b
        ON b.runtime_id = e.runtime_id AND b.bucket_date = e.bucket_date AND b.hour = e.hour AND b.name_id = e.name_id
    WHERE (e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.event_count, e.task_count)
        IS DISTINCT FROM (b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.task_count) OR b.twin
), activity AS (
    SELECT coalesce(e.runtime_id, b.runtime_id) AS runtime_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT c.runtime_id, c.local_hour AS hour, count(*) AS task_count
        FROM daybook.task_contribution c
        WHERE c.runtime_id = ANY(@runtime_ids::uuid[])
        GROUP BY c.runtime_id, c.local_hour
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND EXISTS (
                SELECT FROM daybook.task_activity_by_hour y
                WHERE y.runtime_id = x.runtime_id AND y.hour = x.hour AND y.generation <> x.generation) AS twin
        FROM daybook.task_activity_by_hour x
        WHERE x.runtime_id = ANY(@runtime_ids::uuid[])
    ) b
        ON b.runtime_id = e.runtime_id AND b.hour = e.hour
    WHERE e.task_count IS DISTINCT FROM b.task_count OR b.twin
), zone AS (
    SELECT r.runtime_id, jsonb_build_object('runtime_id', r.runtime_id, 'timezone', daybook.effective_zone(r.host_timezone)) AS expected,
        jsonb_build_object('runtime_id', r.runtime_id, 'timezone', r.timezone) AS found
    FROM daybook.runtime_rollup r
    WHERE r.runtime_id = ANY(@runtime_ids::uuid[]) AND r.timezone <> daybook.effective_zone(r.host_timezone)
)
SELECT pair.rollup::text AS rollup, pair.runtime_id::uuid AS runtime_id, daybook.named(pair.expected) AS expected,
    daybook.named(pair.found - '{generation,writes,twin}'::text[]) AS found
FROM (
    (SELECT 1 AS n, 'runtime_rollup' AS rollup, zone.* FROM zone LIMIT @max_differences)
    UNION ALL (SELECT 2, 'task_usage_daily', daily.* FROM daily LIMIT @max_differences)
    UNION ALL (SELECT 3, 'task_usage_daily_by_agent', by_agent.* FROM by_agent LIMIT @max_differences)
    UNION ALL (SELECT 4, 'task_usage_daily_by_hour', by_hour.* FROM by_hour LIMIT @max_differences)
    UNION ALL (SELECT 5, 'task_activity_by_hour', activity.* FROM activity LIMIT @max_differences)
) pair
ORDER BY pair.n, pair.runtime_id;

-- name: CompareWorkspaceBuckets :many
-- The rollups of workspaces, of one or of all, and the facts that make them.
WITH usage AS (
    SELECT c.workspace_id, c.utc_date AS bucket_date, c.project_id, c.agent_id, c.name_id,
        c.input_tokens, c.output_tokens, c.cache_read_tokens, c.cache_write_tokens, c.counts_in_day, c.counts_in_window
    FROM daybook.workspace_contribution c
    WHERE c.is_open AND c.workspace_id IS NOT NULL AND (sqlc.narg(workspace_id)::uuid IS NULL OR c.workspace_id = sqlc.narg(workspace_id))
), by_project AS (
    SELECT u.workspace_id, u.bucket_date, u.project_id, u.agent_id, u.name_id,
        sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
        sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, count(*) AS event_count,
        count(*) FILTER (WHERE u.counts_in_day) AS day_task_count, count(*) FILTER (WHERE u.counts_in_window) AS window_task_count
    FROM usage u
    GROUP BY u.workspace_id, u.bucket_date, u.project_id, u.agent_id, u.name_id
), daily AS (
    SELECT coalesce(e.workspace_id, b.workspace_id) AS workspace_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM by_project e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND CASE WHEN x.project_id IS NULL
                THEN EXISTS (
                    SELECT FROM daybook.bucket_workspace_usage y
                    WHERE y.project_id IS NULL AND y.workspace_id = x.workspace_id AND y.bucket_date = x.bucket_date
                      AND y.agent_id = x.agent_id AND y.name_id = x.name_id AND y.generation <> x.generation)
                ELSE EXISTS (
                    SELECT FROM daybook.bucket_workspace_usage y
                    WHERE y.project_id = x.project_id AND y.workspace_id = x.workspace_id AND y.bucket_date = x.bucket_date
                      AND y.agent_id = x.agent_id AND y.name_id = x.name_id AND y.generation <> x.generation) END AS twin
        FROM daybook.bucket_workspace_usage x
        WHERE (sqlc.narg(workspace_id)::uuid IS NULL OR x.workspace_id = sqlc.narg(workspace_id))
          AND x.bucket_date >= (SELECT daybook.closed_before())
    ) b ON b.workspace_id = e.workspace_id AND b.bucket_date = e.bucket_date AND b.agent_id = e.agent_id AND b.name_id = e.name_id AND coalesce(b.project_id, b.workspace_id) = coalesce(e.project_id, e.workspace_id)
    WHERE (e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.event_count, e.day_task_count, e.window_task_count)
        IS DISTINCT FROM (b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.day_task_count, b.window_task_count) OR b.twin
), by_agent AS (
    SELECT coalesce(e.workspace_id, b.workspace_id) AS workspace_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT u.workspace_id, u.bucket_date, u.agent_id, u.name_id,
            sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,
            sum(u.cache_read_tokens) AS cache_read_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, sum(u.event_count) AS event_count,
            sum(u.day_task_count) AS day_task_count, sum(u.window_task_count) AS window_task_count
        FROM by_project u
        GROUP BY u.workspace_id, u.bucket_date, u.agent_id, u.name_id
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND EXISTS (
            SELECT FROM daybook.bucket_workspace_usage_by_agent y
            WHERE y.workspace_id = x.workspace_id AND y.bucket_date = x.bucket_date AND y.agent_id = x.agent_id AND y.name_id = x.name_id AND y.generation <> x.generation) AS twin
        FROM daybook.bucket_workspace_usage_by_agent x
        WHERE (sqlc.narg(workspace_id)::uuid IS NULL OR x.workspace_id = sqlc.narg(workspace_id))
          AND x.bucket_date >= (SELECT daybook.closed_before())
    ) b ON b.workspace_id = e.workspace_id AND b.bucket_date = e.bucket_date AND b.agent_id = e.agent_id AND b.name_id = e.name_id
    WHERE (e.input_tokens, e.output_tokens, e.cache_read_tokens, e.cache_write_tokens, e.event_count, e.day_task_count, e.window_task_count)
        IS DISTINCT FROM (b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.day_task_count, b.window_task_count) OR b.twin
), run_time AS (
    SELECT coalesce(e.workspace_id, b.workspace_id) AS workspace_id, to_jsonb(e) AS expected, to_jsonb(b) AS found
    FROM (
        SELECT d.workspace_id, (f.completed_at AT TIME ZONE 'UTC')::date AS bucket_date, d.project_id, d.agent_id,
            (extract(epoch FROM sum(f.completed_at - f.started_at)) * 1000000)::numeric AS total_microseconds,
            count(*) AS task_count, count(*) FILTER (WHERE f.failed) AS failed_count
        FROM daybook.ledger_task f
        JOIN daybook.dimension d ON d.id = f.dimension_id
        WHERE d.workspace_id IS NOT NULL AND f.completed_at IS NOT NULL
          AND (sqlc.narg(workspace_id)::uuid IS NULL OR d.workspace_id = sqlc.narg(workspace_id))
        GROUP BY d.workspace_id, (f.completed_at AT TIME ZONE 'UTC')::date, d.project_id, d.agent_id
    ) e
    FULL JOIN (
        SELECT x.*, x.generation > 0 AND CASE WHEN x.project_id IS NULL
                THEN EXISTS (
                    SELECT FROM daybook.workspace_run_time_daily y
                    WHERE y.project_id IS NULL AND y.workspace_id = x.workspace_id AND y.bucket_date = x.bucket_date
                      AND y.agent_id = x.agent_id AND y.generation <> x.generation)
                ELSE EXISTS (
                    SELECT FROM daybook.workspace_run_time_daily y
                    WHERE y.project_id = x.project_id AND y.workspace_id = x.workspace_id AND y.bucket_date = x.bucket_date
                      AND y.agent_id = x.agent_id AND y.generation <> x.generation) END AS twin
        FROM daybook.workspace_run_time_daily x
        WHERE sqlc.narg(workspace_id)::uuid IS NULL OR x.workspace_id = sqlc.narg(workspace_id)
    ) b ON b.workspace_id = e.workspace_id AND b.bucket_date = e.bucket_date AND b.agent_id = e.agent_id
        AND coalesce(b.project_id, b.workspace_id) = coalesce(e.project_id, e.workspace_id)
    WHERE (e.total_microseconds, e.task_count, e.failed_count) IS DISTINCT FROM (b.total_microseconds, b.task_count, b.failed_count) OR b.twin
)
SELECT pair.rollup::text AS rollup, pair.workspace_id::uuid AS workspace_id, daybook.named(pair.expected) AS expected,
    daybook.named(pair.found - '{generation,writes,twin}'::text[]) AS found
FROM (
    (SELECT 1 AS n, 'workspace_usage_daily' AS rollup, daily.* FROM daily LIMIT @max_differences)
    UNION ALL (SELECT 2, 'workspace_usage_daily_by_agent', by_agent.* FROM by_agent LIMIT @max_differences)
    UNION ALL (SELECT 3, 'workspace_run_time_daily', run_time.* FROM run_time LIMIT @max_differences)
) pair
ORDER BY pair.n, pair.workspace_id;

-- name: ListUnitsToVerify :many
-- Of the given units, all that were asked for, and of those that have waited longer than the period or differed the last time as many as
-- there is room for: the longest first, the ones that never had a turn before them.
SELECT due.unit::uuid AS unit
FROM (
    SELECT u.id AS unit, asked.for_it, row_number() OVER (ORDER BY asked.for_it DESC, v.attempted_at NULLS FIRST, u.id) AS place
    FROM (SELECT unnest(@units::uuid[]) AS id) u
    LEFT JOIN daybook.verification v ON v.unit = u.id
    CROSS JOIN LATERAL (SELECT coalesce(v.attempted_at = '-infinity', false) AS for_it) asked
    WHERE v.verified_at IS NULL OR v.differences <> '{}' OR v.verified_at < clock_timestamp() - make_interval(secs => @period_seconds)
) due
WHERE due.for_it OR due.place <= @max_units::bigint
ORDER BY due.place;

-- name: NoteAttempt :exec
-- Before a unit is verified, so that one that fails waits for its next turn like the others. One that was asked for comes first until it is verified.
INSERT INTO daybook.verification AS v (unit, attempted_at)
SELECT u.id, clock_timestamp() FROM (SELECT unnest(@units::uuid[]) AS id) u ORDER BY u.id
ON CONFLICT (unit) DO UPDATE SET attempted_at = excluded.attempted_at WHERE v.attempted_at <> '-infinity';

-- name: RequestVerifications :exec
-- Their turn is next, before all that are due.
INSERT INTO daybook.verification AS v (unit, attempted_at)
SELECT DISTINCT u.id, '-infinity'::timestamptz FROM (SELECT unnest(@units::uuid[]) AS id) u ORDER BY u.id
ON CONFLICT (unit) DO UPDATE SET attempted_at = excluded.attempted_at, verified_at = NULL,
    waits_since = CASE WHEN v.verified_at IS NULL THEN v.waits_since ELSE excluded.waits_since END;

-- name: PutVerification :exec
INSERT INTO daybook.verification (unit, attempted_at, verified_at, differences)
VALUES (@unit, clock_timestamp(), clock_timestamp(), @differences)
ON CONFLICT (unit) DO UPDATE SET
    attempted_at = excluded.attempted_at, verified_at = excluded.verified_at, differences = excluded.differences;

-- name: CountDrift :exec
-- Found are numbers of differences by table.
INSERT INTO daybook.drift_found AS d (rollup, differences)
SELECT f.key, f.value::bigint FROM jsonb_each_text(@found::jsonb) AS f (key, value) ORDER BY f.key
ON CONFLICT (rollup) DO UPDATE SET differences = d.differences + excluded.differences;

-- name: DeleteVerificationsOfOthers :exec
-- Units that are no more.
DELETE FROM daybook.verification v WHERE NOT EXISTS (SELECT FROM (SELECT unnest(@units::uuid[]) AS id) u WHERE u.id = v.unit);

-- The repair of the rollups of workspaces. All shards are locked, so that nobody changes facts or buckets meanwhile. One pass over the
-- facts does for all of them.

-- name: DeleteWorkspaceUsage :exec
DELETE FROM daybook.bucket_workspace_usage
WHERE workspace_id = ANY(@workspace_ids::uuid[]) AND bucket_date >= (SELECT daybook.closed_before());

-- name: DeleteWorkspaceUsageByAgent :exec
DELETE FROM daybook.bucket_workspace_usage_by_agent
WHERE workspace_id = ANY(@workspace_ids::uuid[]) AND bucket_date >= (SELECT daybook.closed_before());

-- name: DeleteWorkspaceRunTime :exec
DELETE FROM daybook.workspace_run_time_daily WHERE workspace_id = ANY(@workspace_ids::uuid[]);

-- name: InsertWorkspaceUsage :exec
INSERT INTO daybook.bucket_workspace_usage (workspace_id, bucket_date, project_id, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count)
SELECT u.workspace_id, u.utc_date, u.project_id, u.agent_id, u.name_id,
    sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint, sum(u.cache_read_tokens)::bigint, sum(u.cache_write_tokens)::bigint,
    count(*), count(*) FILTER (WHERE u.counts_in_day), count(*) FILTER (WHERE u.counts_in_window)
FROM daybook.workspace_contribution u
WHERE u.workspace_id = ANY(@workspace_ids::uuid[]) AND u.is_open
GROUP BY u.workspace_id, u.utc_date, u.project_id, u.agent_id, u.name_id;

-- name: InsertWorkspaceUsageByAgent :exec
-- After InsertWorkspaceUsage.
INSERT INTO daybook.bucket_workspace_usage_by_agent (workspace_id, bucket_date, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count)
SELECT b.workspace_id, b.bucket_date, b.agent_id, b.name_id,
    sum(b.input_tokens)::bigint, sum(b.output_tokens)::bigint, sum(b.cache_read_tokens)::bigint, sum(b.cache_write_tokens)::bigint,
    sum(b.event_count)::bigint, sum(b.day_task_count)::bigint, sum(b.window_task_count)::bigint
FROM daybook.bucket_workspace_usage b
WHERE b.workspace_id = ANY(@workspace_ids::uuid[]) AND b.bucket_date >= (SELECT daybook.closed_before())
GROUP BY b.workspace_id, b.bucket_date, b.agent_id, b.name_id;

-- name: InsertWorkspaceRunTime :exec
INSERT INTO daybook.workspace_run_time_daily
SELECT d.workspace_id, (f.completed_at AT TIME ZONE 'UTC')::date, d.project_id, d.agent_id,
    (extract(epoch FROM sum(f.completed_at - f.started_at)) * 1000000)::bigint, count(*), count(*) FILTER (WHERE f.failed)
FROM daybook.ledger_task f
JOIN daybook.dimension d ON d.id = f.dimension_id
WHERE d.workspace_id = ANY(@workspace_ids::uuid[]) AND f.completed_at IS NOT NULL
GROUP BY d.workspace_id, (f.completed_at AT TIME ZONE 'UTC')::date, d.project_id, d.agent_id;

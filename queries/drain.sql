-- The statements of one drain transaction, in the order in which rollup runs them. READ COMMITTED: each sees what was
-- committed before it began, and that is why the claim and the reading of the source are apart.

-- name: TryLockShards :many
SELECT s.shard::smallint AS shard
FROM unnest(@shards::integer[]) AS s (shard)
WHERE pg_try_advisory_xact_lock(@lock_class::integer, s.shard);

-- name: PrepareDrain :exec
-- idle_in_transaction_session_timeout frees the shard in bounded time if the worker stands still. lock_timeout is less than
-- the server's deadlock_timeout (1 s by default), so that where the host locks whole tables it is a drain that gives way. A
-- crash that loses the commit loses all of it, the deleted entries too, so it need not be flushed. The plans must not
-- depend on statistics: a drain reads few rows of large tables, whatever ANALYZE saw last. To compile a statement takes many times longer
-- than to run it. With row_security off, Postgres raises an error where a policy would hide rows and so make the numbers wrong.
SELECT set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
    set_config('lock_timeout', @lock_timeout::text, true),
    set_config('synchronous_commit', 'off', true),
    set_config('statement_timeout', '0', true),
    set_config('row_security', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('jit', 'off', true),
    set_config('enable_seqscan', 'off', true),
    set_config('tcp_user_timeout', @idle_timeout::text, true);

-- name: ClaimDirtyTasks :many
-- The first entries of the shards, in the order of their numbers, so that none waits for another shard, each after the one that is given or,
-- where that is negative, from where the queue begins; of one shard shard_entries at most. The snapshot tells AdvanceProgress which
-- transactions this statement could not see.
SELECT d.shard, d.id, d.task_id, pg_current_snapshot()::text AS snapshot
FROM (SELECT unnest(@shards::smallint[]) AS shard, unnest(@after_ids::bigint[]) AS after_id) s
CROSS JOIN LATERAL (
    SELECT e.shard, e.id, e.task_id
    FROM daybook.task_usage_daily_dirty e
    WHERE e.shard = s.shard AND e.id > CASE WHEN s.after_id < 0 THEN daybook.queue_start(s.shard) ELSE s.after_id END
    ORDER BY e.id
    LIMIT @shard_entries
) d
ORDER BY d.id
LIMIT @max_entries;

-- name: AdvanceProgress :exec
-- After a pass that has looked at every entry of these shards from where the queue begins. snapshot is that of its first claim, last_ids
-- are the last entries that it saw, left_ids the first that it left. Triggers have a transaction id before they take a number, and this
-- transaction took its own after the claim, so whoever has a number up to last_ids has a lower id than this one. When a later pass begins,
-- it sees their entries, or they are in its snapshot. A pass in whose time another one has noted its own is no such later pass: it notes nothing.
UPDATE daybook.shard_progress p SET
    low_id = least(greatest(p.low_id, p.next_id), d.left_id - 1),
    open_xids = CASE WHEN p.next_xid IS NULL THEN p.open_xids
        ELSE ARRAY(SELECT x.xid FROM pg_snapshot_xip(CAST(@snapshot::text AS pg_snapshot)) AS x (xid) WHERE x.xid < p.next_xid) END,
    next_id = least(d.last_id, d.left_id - 1),
    next_xid = pg_current_xact_id()
FROM (SELECT unnest(@shards::smallint[]) AS shard, unnest(@last_ids::bigint[]) AS last_id, unnest(@left_ids::bigint[]) AS left_id) d
WHERE p.shard = d.shard AND d.last_id >= p.low_id + sqlc.arg(min_step)::bigint
  AND (p.next_xid IS NULL OR pg_visible_in_snapshot(p.next_xid, CAST(@snapshot::text AS pg_snapshot)));

-- name: GetClosedDays :one
-- After the shards are locked: days are closed by whoever holds them all.
SELECT daybook.closed_before()::date AS closed_before, daybook.kept_from()::timestamptz AS kept_from;

-- name: ListSource :many
-- The tasks as the host has them, one row for each usage row, or one without usage. timezone is the zone of the local times; null without a runtime.
SELECT d.task_id::uuid AS task_id, a.workspace_id, t.runtime_id, t.agent_id, i.project_id, r.timezone,
    t.started_at, (t.started_at AT TIME ZONE r.timezone)::timestamp AS local_started,
    CASE WHEN t.status::text IN ('completed', 'failed') THEN t.completed_at END::timestamptz AS completed_at,
    coalesce(t.status::text = 'failed' AND t.completed_at IS NOT NULL, false)::boolean AS failed,
    (u.task_id IS NOT NULL)::boolean AS has_usage, u.provider, u.model,
    coalesce(u.input_tokens, 0)::bigint AS input_tokens, coalesce(u.output_tokens, 0)::bigint AS output_tokens,
    coalesce(u.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(u.cache_write_tokens, 0)::bigint AS cache_write_tokens,
    u.created_at, (u.created_at AT TIME ZONE r.timezone)::timestamp AS local_created
FROM unnest(@task_ids::uuid[]) AS d (task_id)
JOIN public.agent_task_queue t ON t.id = d.task_id
LEFT JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id
LEFT JOIN public.task_usage u ON u.task_id = t.id
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = t.runtime_id;

-- name: ListSourceOfMany :many
-- The same, for hundreds of tasks or more. Their usage is read at once, in the order of its pages, where ListSource looks for each row by itself. What is
-- read so takes a tenth more time, but half of it where a transaction that is open for long keeps tens of versions of each row. That there are two
-- conditions is what makes Postgres do so: it has no other way to meet one or the other by an index. The second part is empty. Postgres expects ten
-- rows of it, and so joins by a hash also where it knows of no usage yet: a nested loop would pass each row of usage for each task.
WITH u AS MATERIALIZED (
    SELECT x.task_id, x.provider, x.model, x.input_tokens, x.output_tokens, x.cache_read_tokens, x.cache_write_tokens, x.created_at
    FROM public.task_usage x
    WHERE x.task_id = ANY((@task_ids::uuid[])[:1]) OR x.task_id = ANY((@task_ids::uuid[])[2:])
    UNION ALL
    SELECT none, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM unnest((@task_ids::uuid[])[2:1]) AS none
)
SELECT d.task_id::uuid AS task_id, a.workspace_id, t.runtime_id, t.agent_id, i.project_id, r.timezone,
    t.started_at, (t.started_at AT TIME ZONE r.timezone)::timestamp AS local_started,
    CASE WHEN t.status::text IN ('completed', 'failed') THEN t.completed_at END::timestamptz AS completed_at,
    coalesce(t.status::text = 'failed' AND t.completed_at IS NOT NULL, false)::boolean AS failed,
    (u.task_id IS NOT NULL)::boolean AS has_usage, u.provider, u.model,
    coalesce(u.input_tokens, 0)::bigint AS input_tokens, coalesce(u.output_tokens, 0)::bigint AS output_tokens,
    coalesce(u.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(u.cache_write_tokens, 0)::bigint AS cache_write_tokens,
    u.created_at, (u.created_at AT TIME ZONE r.timezone)::timestamp AS local_created
FROM unnest(@task_ids::uuid[]) AS d (task_id)
JOIN public.agent_task_queue t ON t.id = d.task_id
LEFT JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id
LEFT JOIN u ON u.task_id = t.id
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = t.runtime_id;

-- name: ListUsageFacts :many
-- The usage of the tasks as it is counted now, and where its rows are.
SELECT f.task_id, f.name_id, f.dimension_id, f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
    f.ctid AS place
FROM daybook.ledger_usage f
WHERE f.task_id = ANY(@task_ids::uuid[]);

-- name: ListTaskFacts :many
-- The tasks as they are counted now, and where their rows are.
SELECT f.task_id, f.dimension_id, f.started_at, f.completed_at, f.failed, f.ctid AS place
FROM daybook.ledger_task f
WHERE f.task_id = ANY(@task_ids::uuid[]);

-- name: ListNumbered :many
-- What the numbers in facts stand for: names, with a provider and a model, and dimensions, with the rest.
SELECT n.id, n.provider, n.model, NULL::uuid AS workspace_id, NULL::uuid AS runtime_id, NULL::uuid AS agent_id, NULL::uuid AS project_id
FROM daybook.usage_name n
WHERE n.id = ANY(@name_ids::integer[])
UNION ALL
SELECT d.id, '', '', d.workspace_id, d.runtime_id, d.agent_id, d.project_id
FROM daybook.dimension d
WHERE d.id = ANY(@dimension_ids::integer[]);

-- name: ListLocalTimes :many
-- Instants in the zones that the buckets of these runtimes are in. n is the number of an instant in the array; timezone is null if the runtime has none.
SELECT i.n::integer AS n, r.timezone, (i.instant AT TIME ZONE r.timezone)::timestamp AS local_time
FROM (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@instants::timestamptz[]) AS instant,
        generate_subscripts(@runtime_ids::uuid[], 1) AS n
) i
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = i.runtime_id;

-- name: TryLockRuntimes :many
-- Shared: drains of different shards work on one runtime at the same time, a rebuild excludes them all.
SELECT r.runtime_id::uuid AS runtime_id,
    pg_try_advisory_xact_lock_shared(@lock_class::integer, pg_catalog.uuid_hash(r.runtime_id)) AS locked
FROM unnest(@runtime_ids::uuid[]) AS r (runtime_id);

-- name: TryLockManyRuntimes :one
-- Shared, and for all runtimes. It is not given while a rebuild waits for it.
SELECT pg_try_advisory_xact_lock_shared(@lock_class::integer, 0) AS locked;

-- name: ListLockedRuntimes :many
-- Those of the runtimes that rebuilds have locked. What it reads is not of a snapshot, so it must be a later statement than the one above.
SELECT r.runtime_id::uuid AS runtime_id
FROM unnest(@runtime_ids::uuid[]) AS r (runtime_id)
WHERE pg_catalog.uuid_hash(r.runtime_id)::oid IN (
    SELECT l.objid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'advisory' AND l.classid = CAST(@lock_class::integer AS oid) AND l.objsubid = 2 AND l.mode = 'ExclusiveLock' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()));

-- name: EnsureRuntimeRollups :many
-- The zone of a runtime that is counted for the first time. Returns the zones that Postgres does not know.
WITH added AS (
    INSERT INTO daybook.runtime_rollup (runtime_id, timezone, host_timezone)
    SELECT r.id, daybook.effective_zone(h.timezone), coalesce(h.timezone, 'UTC')
    FROM unnest(@runtime_ids::uuid[]) AS r (id)
    LEFT JOIN public.agent_runtime h ON h.id = r.id
    WHERE NOT EXISTS (SELECT FROM daybook.runtime_rollup x WHERE x.runtime_id = r.id)
    ORDER BY r.id
    ON CONFLICT (runtime_id) DO NOTHING
    RETURNING runtime_id, timezone, host_timezone
)
SELECT runtime_id, host_timezone FROM added WHERE timezone <> host_timezone;

-- name: ListRuntimeZones :many
-- After the runtimes are locked: their zones cannot change any more.
SELECT runtime_id, timezone FROM daybook.runtime_rollup WHERE runtime_id = ANY(@runtime_ids::uuid[]);

-- The numbers of names and of dimensions are given once. Where two drains add the same, one waits for the other's commit, and sees it in its
-- next statement. Names come before dimensions, and both before buckets, in order, so nobody waits in a circle.

-- name: ListUsageNames :many
SELECT n.id, n.provider, n.model
FROM (SELECT unnest(@providers::text[]) AS provider, unnest(@models::text[]) AS model) k
JOIN daybook.usage_name n ON n.provider = k.provider AND n.model = k.model;

-- name: AddUsageNames :exec
INSERT INTO daybook.usage_name (provider, model)
SELECT k.provider, k.model
FROM (SELECT unnest(@providers::text[]) AS provider, unnest(@models::text[]) AS model) k
ORDER BY k.provider, k.model
ON CONFLICT (provider, model) DO NOTHING;

-- name: ListDimensions :many
-- In four parts, for IS NOT DISTINCT FROM uses no index.
SELECT d.id, d.workspace_id, d.runtime_id, d.agent_id, d.project_id
FROM (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@runtime_ids::uuid[]) AS runtime_id,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@project_ids::uuid[]) AS project_id
) k
CROSS JOIN LATERAL (
    SELECT x.* FROM daybook.dimension x
    WHERE x.agent_id = k.agent_id AND x.runtime_id = k.runtime_id AND x.project_id = k.project_id
    UNION ALL
    SELECT x.* FROM daybook.dimension x
    WHERE x.agent_id = k.agent_id AND x.runtime_id = k.runtime_id AND x.project_id IS NULL AND k.project_id IS NULL
    UNION ALL
    SELECT x.* FROM daybook.dimension x
    WHERE x.agent_id = k.agent_id AND x.runtime_id IS NULL AND k.runtime_id IS NULL AND x.project_id = k.project_id
    UNION ALL
    SELECT x.* FROM daybook.dimension x
    WHERE x.agent_id = k.agent_id AND x.runtime_id IS NULL AND k.runtime_id IS NULL AND x.project_id IS NULL AND k.project_id IS NULL
) d
WHERE d.workspace_id IS NOT DISTINCT FROM k.workspace_id;

-- name: AddDimensions :exec
INSERT INTO daybook.dimension (workspace_id, runtime_id, agent_id, project_id)
SELECT k.workspace_id, k.runtime_id, k.agent_id, k.project_id
FROM (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@runtime_ids::uuid[]) AS runtime_id,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@project_ids::uuid[]) AS project_id
) k
ORDER BY k.agent_id, k.runtime_id, k.project_id, k.workspace_id
ON CONFLICT (agent_id, runtime_id, project_id, workspace_id) DO NOTHING;

-- Facts are written under the lock of their shard, so no other transaction has these rows.

-- name: AddUsageFacts :exec
-- None of them was there when the facts were read.
INSERT INTO daybook.ledger_usage (
    task_id, name_id, dimension_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
SELECT unnest(@task_ids::uuid[]), unnest(@name_ids::integer[]), unnest(@dimension_ids::integer[]),
    unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]), unnest(@cache_read_tokens::bigint[]),
    unnest(@cache_write_tokens::bigint[]), unnest(@created_ats::timestamptz[]);

-- name: UpdateUsageFacts :execrows
-- Where they were read in this transaction: no index is asked, which would pass every version of a fact that may not be removed yet.
UPDATE daybook.ledger_usage f SET
    dimension_id = d.dimension_id,
    input_tokens = d.input_tokens,
    output_tokens = d.output_tokens,
    cache_read_tokens = d.cache_read_tokens,
    cache_write_tokens = d.cache_write_tokens,
    created_at = d.created_at,
    generation = f.generation + (f.writes + 1) / daybook.writes_of_fact_generation(),
    writes = (f.writes + 1) % daybook.writes_of_fact_generation()
FROM (
    SELECT unnest(@places::tid[]) AS place, unnest(@task_ids::uuid[]) AS task_id, unnest(@dimension_ids::integer[]) AS dimension_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@created_ats::timestamptz[]) AS created_at
) d
WHERE f.ctid = d.place AND f.task_id = d.task_id;

-- name: DeleteUsageFacts :exec
DELETE FROM daybook.ledger_usage f
USING (SELECT unnest(@task_ids::uuid[]) AS task_id, unnest(@name_ids::integer[]) AS name_id) k
WHERE f.task_id = k.task_id AND f.name_id = k.name_id;

-- name: AddTaskFacts :exec
INSERT INTO daybook.ledger_task (task_id, dimension_id, started_at, completed_at, failed)
SELECT unnest(@task_ids::uuid[]), unnest(@dimension_ids::integer[]), unnest(@started_ats::timestamptz[]), unnest(@completed_ats::timestamptz[]),
    unnest(@failed::boolean[]);

-- name: UpdateTaskFacts :execrows
UPDATE daybook.ledger_task f SET
    dimension_id = d.dimension_id,
    started_at = d.started_at,
    completed_at = d.completed_at,
    failed = d.failed
FROM (
    SELECT unnest(@places::tid[]) AS place, unnest(@task_ids::uuid[]) AS task_id, unnest(@dimension_ids::integer[]) AS dimension_id,
        unnest(@started_ats::timestamptz[]) AS started_at, unnest(@completed_ats::timestamptz[]) AS completed_at,
        unnest(@failed::boolean[]) AS failed
) d
WHERE f.ctid = d.place AND f.task_id = d.task_id;

-- name: DeleteTaskFacts :exec
DELETE FROM daybook.ledger_task WHERE task_id = ANY(@task_ids::uuid[]);

-- name: DeleteDirtyEntries :many
-- How long each has waited, and how long this transaction has taken until now, both by the database's clock.
DELETE FROM daybook.task_usage_daily_dirty e
USING (SELECT unnest(@shards::smallint[]) AS shard, unnest(@ids::bigint[]) AS id) d
WHERE e.shard = d.shard AND e.id = d.id
RETURNING date_part('epoch', clock_timestamp() - e.enqueued_at)::float8 AS age_seconds,
    date_part('epoch', clock_timestamp() - transaction_timestamp())::float8 AS batch_seconds;

-- name: RefuseChanges :exec
UPDATE daybook.refused_change SET tasks = tasks + @tasks, last_task = @last_task::uuid, last_at = clock_timestamp();

-- name: ForgiveTasks :exec
DELETE FROM daybook.task_usage_daily_quarantine WHERE task_id = ANY(@task_ids::uuid[]);

-- name: QuarantineTask :exec
INSERT INTO daybook.task_usage_daily_quarantine (task_id, error)
VALUES (@task_id, @error)
ON CONFLICT (task_id) DO UPDATE SET error = excluded.error, quarantined_at = excluded.quarantined_at;

-- name: ListQuarantined :many
SELECT task_id, error, quarantined_at FROM daybook.task_usage_daily_quarantine ORDER BY quarantined_at, task_id LIMIT @max_tasks;

-- name: RequeueQuarantined :many
-- Of the given tasks, or of all if none is given. They leave the quarantine when they are counted. As in MarkTasks, the transaction id
-- comes before the numbers.
INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
SELECT daybook.shard_of(q.task_id), q.task_id
FROM daybook.task_usage_daily_quarantine q
WHERE pg_current_xact_id() IS NOT NULL AND (cardinality(@task_ids::uuid[]) = 0 OR q.task_id = ANY(@task_ids::uuid[]))
RETURNING task_id;

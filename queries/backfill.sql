-- name: PrepareList :exec
-- For transactions that read or mark many tasks: free their locks if the worker stands still, give way where the host locks whole
-- tables, take the time they need, and fail rather than overlook what a policy hides.
SELECT set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
    set_config('lock_timeout', @lock_timeout::text, true),
    set_config('statement_timeout', '0', true),
    set_config('row_security', 'off', true);

-- name: GetCoverage :one
-- complete: all that the host has is counted, or has an entry.
SELECT daybook.attached()::boolean AS attached, attached_at, backfill_listed_at, backfill_finished_at, backfill_tasks,
    coalesce(backfill_listed_at > attached_at, false)::boolean AS listed_since_attached,
    daybook.counted()::boolean AS complete, closed_before,
    coalesce((SELECT sum(done) FROM daybook.backfill_lane), 0)::bigint AS tasks_done,
    EXISTS (SELECT FROM daybook.backfill_task) AS has_list
FROM daybook.coverage;

-- name: LockBackfill :exec
SELECT pg_advisory_xact_lock(@lock_class::integer, 0);

-- name: TruncateBackfillList :exec
TRUNCATE daybook.backfill_task, daybook.backfill_lane;

-- name: ListTasksToBackfill :execrows
-- All tasks of the host, and those that are counted though the host no longer has them. Ordered so that the tasks of one
-- batch share buckets, and cut into lanes that share hardly any.
INSERT INTO daybook.backfill_task (lane, seq, task_id)
SELECT (ntile(sqlc.arg(lane_count)::integer) OVER listed - 1)::smallint, row_number() OVER listed, id
FROM (
    SELECT id, runtime_id, created_at FROM public.agent_task_queue
    UNION ALL
    SELECT f.task_id, NULL, NULL
    FROM (
        SELECT task_id FROM daybook.ledger_usage
        UNION SELECT task_id FROM daybook.ledger_task
        UNION SELECT task_id FROM daybook.task_usage_daily_quarantine) f
    WHERE NOT EXISTS (SELECT FROM public.agent_task_queue t WHERE t.id = f.task_id)
) t
WINDOW listed AS (ORDER BY runtime_id, created_at, id)
ORDER BY 1, 2;

-- name: StartBackfill :exec
UPDATE daybook.coverage SET backfill_listed_at = now(), backfill_finished_at = NULL, backfill_tasks = @tasks;

-- name: InitBackfillLanes :exec
INSERT INTO daybook.backfill_lane (lane, seq, done)
SELECT n::smallint, @first_seq::bigint, 0 FROM generate_series(0, sqlc.arg(lane_count)::integer - 1) AS n;

-- name: ListBackfillLanes :many
SELECT lane FROM daybook.backfill_lane ORDER BY lane;

-- name: ListShards :many
SELECT s::smallint AS shard FROM generate_series(0, daybook.shard_count() - 1) s;

-- name: LockShards :exec
-- Waits for the drains at work. A drain only tries, so this cannot be part of a cycle.
SELECT pg_advisory_xact_lock(@lock_class::integer, s.shard) FROM unnest(@shards::integer[]) AS s (shard);

-- name: ShareShards :exec
-- The same for the lanes of a backfill, which have no task in common: they keep drains away, and not each other.
SELECT pg_advisory_xact_lock_shared(@lock_class::integer, s.shard) FROM unnest(@shards::integer[]) AS s (shard);

-- name: LockLane :exec
-- Another process may work on the same list.
SELECT pg_advisory_xact_lock(@lock_class::integer, 1 + @lane::integer);

-- name: ListBackfillBatch :many
SELECT b.seq, b.task_id
FROM daybook.backfill_task b
WHERE b.lane = @lane AND b.seq > (SELECT l.seq FROM daybook.backfill_lane l WHERE l.lane = @lane)
ORDER BY b.seq
LIMIT @max_tasks;

-- name: AdvanceBackfill :exec
UPDATE daybook.backfill_lane SET seq = @seq, done = done + @done WHERE lane = @lane;

-- name: MarkTasks :exec
-- The transaction id comes before the numbers: see AdvanceProgress.
INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
SELECT daybook.shard_of(id), id FROM (SELECT unnest(@task_ids::uuid[]) AS id) t
WHERE pg_current_xact_id() IS NOT NULL;

-- name: FinishBackfill :exec
UPDATE daybook.coverage SET backfill_finished_at = clock_timestamp();

-- name: EnsureAllRuntimeRollups :many
-- As EnsureRuntimeRollups, for every runtime of the host, so that a backfill need not meet them one by one.
WITH added AS (
    INSERT INTO daybook.runtime_rollup (runtime_id, timezone, host_timezone)
    SELECT h.id, daybook.effective_zone(h.timezone), coalesce(h.timezone, 'UTC')
    FROM public.agent_runtime h
    WHERE NOT EXISTS (SELECT FROM daybook.runtime_rollup x WHERE x.runtime_id = h.id)
    ORDER BY h.id
    ON CONFLICT (runtime_id) DO NOTHING
    RETURNING runtime_id, timezone, host_timezone
)
SELECT runtime_id, host_timezone FROM added WHERE timezone <> host_timezone;

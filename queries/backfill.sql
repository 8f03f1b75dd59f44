-- name: GetCoverage :one
SELECT daybook.attached()::boolean AS attached, attached_at, backfill_listed_at, backfill_finished_at, backfill_tasks,
    coalesce(backfill_listed_at > attached_at, false)::boolean AS listed_since_attached,
    coalesce((SELECT sum(done) FROM daybook.backfill_shard), 0)::bigint AS tasks_done,
    EXISTS (SELECT FROM daybook.backfill_task) AS has_list
FROM daybook.coverage;

-- name: LockBackfill :exec
SELECT pg_advisory_xact_lock(@lock_class::integer, 0);

-- name: TruncateBackfillList :exec
TRUNCATE daybook.backfill_task, daybook.backfill_shard;

-- name: ListTasksToBackfill :execrows
-- All tasks of the host, and those that are counted though the host no longer has them. Ordered so that the
-- tasks of one batch share buckets.
INSERT INTO daybook.backfill_task (shard, seq, task_id)
SELECT daybook.shard_of(id), row_number() OVER (ORDER BY runtime_id, created_at), id
FROM (
    SELECT id, runtime_id, created_at FROM public.agent_task_queue
    UNION ALL
    SELECT f.task_id, NULL, NULL
    FROM (SELECT task_id FROM daybook.task_usage_fact UNION SELECT task_id FROM daybook.task_fact) f
    WHERE NOT EXISTS (SELECT FROM public.agent_task_queue t WHERE t.id = f.task_id)
) t;

-- name: StartBackfill :exec
UPDATE daybook.coverage SET backfill_listed_at = now(), backfill_finished_at = NULL, backfill_tasks = @tasks;

-- name: InitBackfillShards :exec
INSERT INTO daybook.backfill_shard (shard, seq, done)
SELECT s, 0, 0 FROM generate_series(0, daybook.shard_count() - 1) s;

-- name: LockShard :exec
SELECT pg_advisory_xact_lock(@lock_class::integer, @shard::integer);

-- name: ListBackfillBatch :many
SELECT b.seq, b.task_id
FROM daybook.backfill_task b
WHERE b.shard = @shard AND b.seq > (SELECT s.seq FROM daybook.backfill_shard s WHERE s.shard = @shard)
ORDER BY b.seq
LIMIT @max_tasks;

-- name: AdvanceBackfill :exec
UPDATE daybook.backfill_shard SET seq = @seq, done = done + @done WHERE shard = @shard;

-- name: MarkTasks :exec
INSERT INTO daybook.task_usage_daily_dirty (task_id)
SELECT unnest(@task_ids::uuid[]);

-- name: FinishBackfill :exec
UPDATE daybook.coverage SET backfill_finished_at = clock_timestamp();

-- name: ListShards :many
SELECT s::smallint AS shard FROM generate_series(0, daybook.shard_count() - 1) s;

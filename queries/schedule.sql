-- What there is to do: the statements of a worker's tick, and of the jobs that are not a drain or a rebuild.

-- name: ListDirtyShards :many
-- The shards that have entries, and how many, counted up to max_entries: the cost does not grow with the queue. seconds is how long the oldest of
-- these has waited. first_id and last_id are the numbers of the first and the last entry; of less than max_entries the last is not looked for. tick is the database's clock in whole seconds.
SELECT s.shard::smallint AS shard, waiting.entries, extract(epoch FROM clock_timestamp() - waiting.since)::float8 AS seconds,
    waiting.first_id::bigint AS first_id,
    coalesce(tail.id, waiting.first_id)::bigint AS last_id,
    floor(extract(epoch FROM clock_timestamp()))::bigint AS tick
FROM generate_series(0, daybook.shard_count() - 1) AS s (shard)
CROSS JOIN LATERAL (
    SELECT count(*) AS entries, min(capped.enqueued_at) AS since, min(capped.id) AS first_id
    FROM (
        SELECT d.enqueued_at, d.id FROM daybook.task_usage_daily_dirty d
        WHERE d.shard = s.shard AND d.id > daybook.queue_start(s.shard::smallint)
        ORDER BY d.id
        LIMIT @max_entries
    ) capped
) waiting
LEFT JOIN LATERAL (
    SELECT d.id FROM daybook.task_usage_daily_dirty d
    WHERE d.shard = s.shard AND waiting.entries >= @max_entries
    ORDER BY d.id DESC
    LIMIT 1
) tail ON true
WHERE waiting.entries > 0
ORDER BY s.shard;

-- name: ResetProgress :exec
UPDATE daybook.shard_progress SET low_id = 0, open_xids = '{}', next_id = NULL, next_xid = NULL;

-- name: ListRequestedRebuilds :many
-- attempt changes every retry_seconds, so a rebuild whose worker died is taken up again.
SELECT runtime_id, max(revision)::bigint AS revision,
    floor(extract(epoch FROM clock_timestamp()) / @retry_seconds::integer)::bigint AS attempt
FROM daybook.runtime_rebuild
GROUP BY runtime_id
ORDER BY min(revision)
LIMIT @max_runtimes;

-- name: LookAround :one
-- What a tick asks about besides the queue. zone_revision counts the changes of the rules of time zones.
SELECT EXISTS (SELECT FROM daybook.dirty_scope) AS has_scopes, floor(extract(epoch FROM clock_timestamp()))::bigint AS tick,
    coalesce((SELECT c.revision FROM daybook.zone_check c), 0)::bigint AS zone_revision;

-- name: IsRebuildRequested :one
SELECT EXISTS (SELECT FROM daybook.runtime_rebuild r WHERE r.runtime_id = @runtime_id) AS requested;

-- name: RequestOutdatedRebuilds :execrows
-- Asks for a rebuild wherever buckets are not built for the host's zone and nobody has asked: a runtime that was made anew
-- under its old id, or whose zone changed while the triggers were off.
INSERT INTO daybook.runtime_rebuild (runtime_id)
SELECT r.runtime_id
FROM daybook.runtime_rollup r
JOIN public.agent_runtime h ON h.id = r.runtime_id
WHERE coalesce(h.timezone, 'UTC') <> r.host_timezone
  AND NOT EXISTS (SELECT FROM daybook.runtime_rebuild q WHERE q.runtime_id = r.runtime_id);

-- name: RequestRebuild :execrows
-- Nothing for a runtime that neither the host nor a rollup knows.
INSERT INTO daybook.runtime_rebuild (runtime_id)
SELECT @runtime_id::uuid
WHERE EXISTS (SELECT FROM daybook.runtime_rollup r WHERE r.runtime_id = @runtime_id)
   OR EXISTS (SELECT FROM public.agent_runtime h WHERE h.id = @runtime_id);

-- name: RequestRebuilds :exec
INSERT INTO daybook.runtime_rebuild (runtime_id) SELECT unnest(@runtime_ids::uuid[]);

-- name: RequestAllRebuilds :execrows
INSERT INTO daybook.runtime_rebuild (runtime_id)
SELECT runtime_id FROM daybook.runtime_rollup ORDER BY runtime_id;

-- name: ClaimDirtyScopes :many
-- Locked so that two expanders do not both expand one.
SELECT id
FROM daybook.dirty_scope
ORDER BY id
LIMIT @max_scopes
FOR UPDATE SKIP LOCKED;

-- The entries keep the time of their scope, so that the lag of the change goes on.

-- name: MarkTasksOfIssues :execrows
INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
SELECT daybook.shard_of(t.id), t.id, min(s.enqueued_at)
FROM daybook.dirty_scope s
JOIN public.agent_task_queue t ON t.issue_id = s.key
WHERE s.id = ANY(@ids::bigint[]) AND s.kind = 'issue'
GROUP BY t.id;

-- name: MarkTasksOfAgents :execrows
INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
SELECT daybook.shard_of(t.id), t.id, min(s.enqueued_at)
FROM daybook.dirty_scope s
JOIN public.agent_task_queue t ON t.agent_id = s.key
WHERE s.id = ANY(@ids::bigint[]) AND s.kind = 'agent'
GROUP BY t.id;

-- name: MarkAllTasks :execrows
-- After a TRUNCATE: whatever is counted may be gone. Tasks that are not counted yet have their own entries.
INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
SELECT daybook.shard_of(f.task_id), f.task_id, s.enqueued_at
FROM (
    SELECT task_id FROM daybook.ledger_usage
    UNION SELECT task_id FROM daybook.ledger_task
    UNION SELECT task_id FROM daybook.task_usage_daily_quarantine) f,
    (SELECT min(enqueued_at) AS enqueued_at FROM daybook.dirty_scope WHERE id = ANY(@ids::bigint[]) AND kind = 'all') s
WHERE s.enqueued_at IS NOT NULL;

-- name: DeleteDirtyScopes :exec
DELETE FROM daybook.dirty_scope WHERE id = ANY(@ids::bigint[]);

-- name: BeatHeart :exec
-- A crash may lose it: nobody waits for the disk.
WITH settings AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO daybook.worker_heartbeat (worker_id, beat_at, period, verify_period)
SELECT @worker_id::text, clock_timestamp(), make_interval(secs => @period_seconds::float8), make_interval(secs => @verify_period_seconds::float8)
FROM settings
ON CONFLICT (worker_id) DO UPDATE SET beat_at = excluded.beat_at, period = excluded.period, verify_period = excluded.verify_period;

-- name: DeleteOldHeartbeats :exec
DELETE FROM daybook.worker_heartbeat WHERE beat_at < now() - interval '1 hour';

-- name: GetLag :one
-- The age in seconds of the oldest committed change that no rollup counts yet, by the database's clock; 0 if there is none.
-- The first entry of each shard is the oldest to within the moments in which two transactions took their numbers. The entries
-- that a scope became are a second or two older than their place in the queue.
--
-- A replica shows what had been committed when its last replayed transaction was: its lag is no less than the age of that. Workers
-- write a sign of life every second, so on a host that stands still a replica that keeps up is a second old and not more.
-- It is not known if nothing tells the replica. replay_seconds is 0 on a primary. Where counted is false, changes may be missing of which
-- there is no entry: triggers are off, or were, or nobody has backfilled.
SELECT coalesce(greatest(waiting.seconds, behind.seconds, 0), 0)::float8 AS seconds,
    coalesce(greatest(behind.seconds, 0), 0)::float8 AS replay_seconds, (behind.seconds IS NOT NULL)::boolean AS known,
    daybook.counted()::boolean AS counted
FROM (
    SELECT extract(epoch FROM clock_timestamp() - least(
        (SELECT min(first.enqueued_at)
         FROM generate_series(0, daybook.shard_count() - 1) AS s (shard)
         CROSS JOIN LATERAL (
             SELECT d.enqueued_at
             FROM daybook.task_usage_daily_dirty d
             WHERE d.shard = s.shard AND d.id > daybook.queue_start(s.shard::smallint)
             ORDER BY d.id
             LIMIT 1) first),
        (SELECT min(enqueued_at) FROM daybook.dirty_scope))) AS seconds
) waiting
CROSS JOIN (
    SELECT CASE WHEN pg_is_in_recovery()
        THEN extract(epoch FROM clock_timestamp() - greatest(
            pg_last_xact_replay_timestamp(), (SELECT max(beat_at) FROM daybook.worker_heartbeat)))
        ELSE 0 END AS seconds
) behind;

-- name: GetStatus :one
SELECT (SELECT count(*) FROM (SELECT FROM daybook.task_usage_daily_dirty LIMIT @max_count) capped) AS dirty_entries,
    (SELECT count(DISTINCT runtime_id) FROM daybook.runtime_rebuild) AS rebuilds,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - min(requested_at)) FROM daybook.runtime_rebuild), 0)::float8 AS oldest_rebuild_seconds,
    (SELECT count(*) FROM daybook.task_usage_daily_quarantine) AS quarantined,
    (SELECT count(*) FROM daybook.runtime_rollup WHERE timezone <> host_timezone) AS rejected_zones,
    coalesce((SELECT c.tasks FROM daybook.refused_change c), 0)::bigint AS refused_changes,
    coalesce((SELECT c.last_at > clock_timestamp() - interval '7 days' FROM daybook.refused_change c), false)::boolean AS refused_lately;

-- name: GetVerified :one
-- runtimes: how many have been verified. complete: everything that is counted has been; then oldest_seconds is the age of the
-- last full pass. overdue: something has waited for more than twice period_seconds, in which the workers are to verify everything once, or nothing
-- has been verified in that time since a backfill was complete.
WITH workers AS (SELECT coalesce(max(h.verify_period), interval '24 hours') AS period FROM daybook.worker_heartbeat h)
SELECT (SELECT count(*) FROM daybook.verification v
     WHERE v.unit <> '00000000-0000-0000-0000-000000000000' AND v.verified_at IS NOT NULL) AS runtimes,
    (EXISTS (SELECT FROM daybook.verification v WHERE v.unit = '00000000-0000-0000-0000-000000000000' AND v.verified_at IS NOT NULL)
        AND NOT EXISTS (
            SELECT FROM daybook.runtime_rollup r
            WHERE NOT EXISTS (SELECT FROM daybook.verification v WHERE v.unit = r.runtime_id AND v.verified_at IS NOT NULL)))::boolean AS complete,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - min(v.verified_at)) FROM daybook.verification v), 0)::float8 AS oldest_seconds,
    (coalesce((SELECT daybook.counted() AND c.backfill_finished_at < clock_timestamp() - 2 * w.period FROM daybook.coverage c), false)
        AND (NOT EXISTS (SELECT FROM daybook.verification v WHERE v.verified_at IS NOT NULL)
            OR EXISTS (SELECT FROM daybook.verification v
                WHERE coalesce(v.verified_at, v.waits_since) < clock_timestamp() - 2 * w.period)))::boolean AS overdue,
    extract(epoch FROM w.period)::float8 AS period_seconds
FROM workers w;

-- name: ListDrift :many
-- Differences that the last verifications found, by table.
SELECT d.key::text AS rollup, sum(d.value::bigint)::bigint AS differences
FROM daybook.verification v
CROSS JOIN LATERAL jsonb_each_text(v.differences) AS d (key, value)
GROUP BY d.key
ORDER BY d.key;

-- name: ListDriftFound :many
-- Differences that all verifications so far have found, by table.
SELECT rollup, differences FROM daybook.drift_found ORDER BY rollup;

-- name: CountWorkers :one
-- Those whose sign of life is not late.
SELECT count(*) FROM daybook.worker_heartbeat h
WHERE h.beat_at > clock_timestamp() - 3 * h.period - interval '5 seconds';

-- name: GetCleanupHeld :one
-- See daybook.cleanup_held. pid is 0, name and holder are empty where there is none.
SELECT h.seconds::float8 AS seconds, coalesce(h.pid, 0)::integer AS pid, coalesce(h.name, '')::text AS name,
    h.transactions::bigint AS transactions, coalesce(h.holder, '')::text AS holder, h.visible::boolean AS visible
FROM daybook.cleanup_held() AS h (seconds, pid, name, transactions, holder, visible);

-- name: GetCleanupRemedy :one
-- What an administrator has to run, if GetCleanupHeld is denied or cannot see.
SELECT CASE WHEN has_function_privilege(p.oid, 'EXECUTE') THEN format('GRANT pg_read_all_stats TO %I;', pg_get_userbyid(p.proowner))
    ELSE format('GRANT EXECUTE ON FUNCTION daybook.cleanup_held() TO %I;', current_user) END::text AS statement
FROM pg_catalog.pg_proc p
WHERE p.oid = 'daybook.cleanup_held()'::regprocedure;

-- name: ListWorkers :many
-- When each worker was last seen, the last first. late: its sign of life should have come by now.
SELECT h.worker_id, extract(epoch FROM clock_timestamp() - h.beat_at)::float8 AS seconds,
    (h.beat_at <= clock_timestamp() - 3 * h.period - interval '5 seconds')::boolean AS late
FROM daybook.worker_heartbeat h
ORDER BY h.beat_at DESC, h.worker_id;

-- The statements of one rebuild transaction, in order. READ COMMITTED.

-- name: PrepareRebuild :exec
-- The timeouts free the runtime in bounded time if the worker stands still or is gone. What is inserted was deleted before, under locks that
-- keep drains away: no trigger need look for a second row of a bucket.
SELECT set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
    set_config('lock_timeout', @lock_timeout::text, true),
    set_config('statement_timeout', '0', true),
    set_config('row_security', 'off', true),
    set_config('work_mem', @work_mem::text, true),
    set_config('jit', 'off', true),
    set_config('tcp_user_timeout', @idle_timeout::text, true),
    set_config('client_connection_check_interval', '1s', true),
    set_config('synchronous_commit', 'off', true),
    set_config('daybook.sole_writer', 'on', true),
    set_config('daybook.awaits_drains_of_many', 'on', true);

-- name: TryLockRebuild :one
-- One rebuild of a runtime at a time: a second one ends here rather than wait. And none while days are being closed.
SELECT (pg_try_advisory_xact_lock_shared(@prune_class::integer, 0)
    AND pg_try_advisory_xact_lock(@lock_class::integer, pg_catalog.uuid_hash(@runtime_id::uuid)))::boolean AS locked;

-- name: LockRuntime :exec
-- Exclusive: waits for the drains that are at work on the runtime; later ones leave its entries for another pass.
SELECT pg_advisory_xact_lock(@lock_class::integer, pg_catalog.uuid_hash(@runtime_id::uuid));

-- name: LockManyRuntimes :exec
-- Exclusive: waits for the drains that hold one lock for all of their runtimes, and may have this one among them.
SELECT pg_advisory_xact_lock(@lock_class::integer, 0);

-- name: ListRebuildRevisions :many
SELECT revision FROM daybook.runtime_rebuild WHERE runtime_id = @runtime_id;

-- name: SetRuntimeZone :many
-- A later statement than the one above, so it sees the zone of every request that is about to be deleted.
INSERT INTO daybook.runtime_rollup AS r (runtime_id, timezone, host_timezone)
SELECT h.id, daybook.effective_zone(h.timezone), coalesce(h.timezone, 'UTC')
FROM public.agent_runtime h
WHERE h.id = @runtime_id
ON CONFLICT (runtime_id) DO UPDATE SET
    timezone = excluded.timezone, host_timezone = excluded.host_timezone, rebuilt_at = excluded.rebuilt_at
RETURNING timezone, host_timezone;

-- name: DeleteRuntimeRollup :exec
DELETE FROM daybook.runtime_rollup WHERE runtime_id = @runtime_id;

-- name: IsRuntimeCounted :one
SELECT EXISTS (
    SELECT FROM daybook.dimension d
    WHERE d.runtime_id = @runtime_id
      AND (EXISTS (SELECT FROM daybook.ledger_usage f WHERE f.dimension_id = d.id)
        OR EXISTS (SELECT FROM daybook.ledger_task f WHERE f.dimension_id = d.id)))::boolean AS counted;

-- Buckets of days that are closed stay.

-- name: DeleteUsageDaily :exec
DELETE FROM daybook.bucket_usage_daily
WHERE runtime_id = @runtime_id AND bucket_date >= (SELECT daybook.closed_before());

-- name: DeleteUsageByAgent :exec
DELETE FROM daybook.bucket_usage_by_agent
WHERE runtime_id = @runtime_id AND bucket_date >= (SELECT daybook.closed_before());

-- name: DeleteUsageByHour :exec
DELETE FROM daybook.bucket_usage_by_hour
WHERE runtime_id = @runtime_id AND bucket_date >= (SELECT daybook.closed_before());

-- name: DeleteActivityByHour :exec
DELETE FROM daybook.task_activity_by_hour WHERE runtime_id = @runtime_id;

-- name: InsertUsageBuckets :exec
-- One pass over the facts for all three rollups of usage: summed up so far that all of them can be made of it.
WITH fact AS (
    SELECT c.local_at::date AS local_date, date_part('hour', c.local_at)::smallint AS local_hour, c.agent_id, c.name_id,
        c.input_tokens, c.output_tokens, c.cache_read_tokens, c.cache_write_tokens, c.counts_in_agent, c.counts_in_hour
    FROM daybook.usage_contribution c
    WHERE c.runtime_id = @runtime_id
    OFFSET 0 -- Or the instant would be converted for each use of its date.
), usage AS MATERIALIZED (
    SELECT f.local_date, f.local_hour, f.agent_id, f.name_id,
        sum(f.input_tokens) AS input_tokens, sum(f.output_tokens) AS output_tokens,
        sum(f.cache_read_tokens) AS cache_read_tokens, sum(f.cache_write_tokens) AS cache_write_tokens, count(*) AS facts,
        count(*) FILTER (WHERE f.counts_in_agent) AS tasks_of_agent, count(*) FILTER (WHERE f.counts_in_hour) AS tasks_of_hour
    FROM fact f
    WHERE f.local_date >= (SELECT daybook.closed_before())
    GROUP BY f.local_date, f.local_hour, f.agent_id, f.name_id
), daily AS (
    INSERT INTO daybook.bucket_usage_daily (runtime_id, bucket_date, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count)
    SELECT @runtime_id, u.local_date, u.name_id,
        sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint,
        sum(u.cache_read_tokens)::bigint, sum(u.cache_write_tokens)::bigint, sum(u.facts)::bigint
    FROM usage u
    GROUP BY u.local_date, u.name_id
    ORDER BY u.local_date, u.name_id
), by_agent AS (
    INSERT INTO daybook.bucket_usage_by_agent (runtime_id, bucket_date, agent_id, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count)
    SELECT @runtime_id, u.local_date, u.agent_id, u.name_id,
        sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint,
        sum(u.cache_read_tokens)::bigint, sum(u.cache_write_tokens)::bigint, sum(u.facts)::bigint, sum(u.tasks_of_agent)::bigint
    FROM usage u
    GROUP BY u.local_date, u.agent_id, u.name_id
    ORDER BY u.local_date, u.agent_id, u.name_id
)
INSERT INTO daybook.bucket_usage_by_hour (runtime_id, bucket_date, hour, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count)
SELECT @runtime_id, u.local_date, u.local_hour, u.name_id,
    sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint,
    sum(u.cache_read_tokens)::bigint, sum(u.cache_write_tokens)::bigint, sum(u.facts)::bigint, sum(u.tasks_of_hour)::bigint
FROM usage u
GROUP BY u.local_date, u.local_hour, u.name_id
ORDER BY u.local_date, u.local_hour, u.name_id;

-- name: InsertActivityByHour :exec
INSERT INTO daybook.task_activity_by_hour
SELECT c.runtime_id, local_hour, count(*)
FROM daybook.task_contribution c
WHERE c.runtime_id = @runtime_id
GROUP BY c.runtime_id, local_hour;

-- name: DeleteRebuildRequests :exec
DELETE FROM daybook.runtime_rebuild WHERE runtime_id = @runtime_id AND revision = ANY(@revisions::bigint[]);

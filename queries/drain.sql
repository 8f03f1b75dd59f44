-- The statements of one drain transaction, in the order in which rollup runs them. READ COMMITTED: each sees what was
-- committed before it began, and that is why the claim and the reading of the source are apart.

-- name: TryLockShard :one
SELECT pg_try_advisory_xact_lock(@lock_class::integer, @shard::integer);

-- name: PrepareDrain :exec
-- idle_in_transaction_session_timeout frees the shard in bounded time if the worker stands still. A crash that loses the
-- commit loses all of it, the deleted entries too, so it need not be flushed. The plans must not depend on statistics:
-- a drain reads few rows of large tables, whatever ANALYZE saw last.
SELECT set_config('idle_in_transaction_session_timeout', @idle_timeout::text, true),
    set_config('synchronous_commit', 'off', true),
    set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true);

-- name: ClaimDirtyTasks :many
SELECT id, task_id
FROM daybook.task_usage_daily_dirty
WHERE shard = @shard AND id > @after_id
ORDER BY id
LIMIT @max_entries;

-- name: GetTaskRuntimes :many
-- The runtime that each task is counted for, by either kind of fact, and the one it belongs to now.
SELECT d.task_id::uuid AS task_id, f.runtime_id AS usage_runtime_id, tf.runtime_id AS task_runtime_id, t.runtime_id AS host_runtime_id
FROM unnest(@task_ids::uuid[]) WITH ORDINALITY AS d (task_id, n)
LEFT JOIN LATERAL (
    SELECT uf.runtime_id FROM daybook.task_usage_fact uf WHERE uf.task_id = d.task_id LIMIT 1
) f ON true
LEFT JOIN daybook.task_fact tf ON tf.task_id = d.task_id
LEFT JOIN public.agent_task_queue t ON t.id = d.task_id
ORDER BY d.n;

-- name: TryLockRuntimes :many
-- Shared: drains of different shards work on one runtime at the same time, a rebuild excludes them all.
SELECT r.runtime_id::uuid AS runtime_id,
    pg_try_advisory_xact_lock_shared(@lock_class::integer, pg_catalog.uuid_hash(r.runtime_id)) AS locked
FROM unnest(@runtime_ids::uuid[]) AS r (runtime_id);

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

-- name: ListUsageContributions :many
SELECT runtime_id, workspace_id, project_id, agent_id, provider, model,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    local_date::date AS local_date, coalesce(local_hour, 0)::smallint AS local_hour, utc_date::date AS utc_date,
    counts_in_agent::boolean AS counts_in_agent, counts_in_hour::boolean AS counts_in_hour,
    counts_in_day::boolean AS counts_in_day, counts_in_window::boolean AS counts_in_window
FROM daybook.usage_contribution
WHERE task_id = ANY(@task_ids::uuid[]);

-- name: ListTaskContributions :many
SELECT runtime_id, workspace_id, project_id, agent_id,
    coalesce(local_hour, 0)::smallint AS local_hour, utc_date::date AS utc_date,
    coalesce(microseconds, 0)::bigint AS microseconds, failed
FROM daybook.task_contribution
WHERE task_id = ANY(@task_ids::uuid[]);

-- name: SyncUsageFacts :exec
-- Makes the facts of the tasks equal to the source. A task that meanwhile belongs to a runtime outside runtime_ids, whose
-- buckets this transaction may not touch, is left as it is: whoever moved it has marked it again.
WITH task AS (
    SELECT d.task_id, t.id AS host_task_id, t.runtime_id, t.agent_id, a.workspace_id, i.project_id
    FROM unnest(@task_ids::uuid[]) AS d (task_id)
    LEFT JOIN public.agent_task_queue t ON t.id = d.task_id
    LEFT JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE t.runtime_id IS NULL OR t.runtime_id = ANY(@runtime_ids::uuid[])
), gone AS (
    DELETE FROM daybook.task_usage_fact f
    USING task
    WHERE f.task_id = task.task_id
      AND (task.host_task_id IS NULL OR NOT EXISTS (
          SELECT FROM public.task_usage u
          WHERE u.task_id = f.task_id AND u.provider = f.provider AND u.model = f.model))
)
INSERT INTO daybook.task_usage_fact AS f (
    task_id, provider, model, workspace_id, runtime_id, agent_id, project_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
SELECT task.task_id, u.provider, u.model, task.workspace_id, task.runtime_id, task.agent_id, task.project_id,
    u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.created_at
FROM task
JOIN public.task_usage u ON u.task_id = task.task_id
WHERE task.host_task_id IS NOT NULL
ON CONFLICT (task_id, provider, model) DO UPDATE SET
    workspace_id = excluded.workspace_id,
    runtime_id = excluded.runtime_id,
    agent_id = excluded.agent_id,
    project_id = excluded.project_id,
    input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens,
    cache_read_tokens = excluded.cache_read_tokens,
    cache_write_tokens = excluded.cache_write_tokens,
    created_at = excluded.created_at
WHERE (f.workspace_id, f.runtime_id, f.agent_id, f.project_id,
       f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at)
    IS DISTINCT FROM
      (excluded.workspace_id, excluded.runtime_id, excluded.agent_id, excluded.project_id,
       excluded.input_tokens, excluded.output_tokens, excluded.cache_read_tokens, excluded.cache_write_tokens,
       excluded.created_at);

-- name: SyncTaskFacts :exec
WITH task AS (
    SELECT d.task_id, t.runtime_id, t.agent_id, a.workspace_id, i.project_id, t.started_at,
        CASE WHEN t.status::text IN ('completed', 'failed') THEN t.completed_at END AS completed_at,
        t.status::text = 'failed' AND t.completed_at IS NOT NULL AS failed
    FROM unnest(@task_ids::uuid[]) AS d (task_id)
    LEFT JOIN public.agent_task_queue t ON t.id = d.task_id
    LEFT JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE t.runtime_id IS NULL OR t.runtime_id = ANY(@runtime_ids::uuid[])
), gone AS (
    DELETE FROM daybook.task_fact f
    USING task
    WHERE f.task_id = task.task_id AND task.started_at IS NULL
)
INSERT INTO daybook.task_fact AS f (
    task_id, workspace_id, runtime_id, agent_id, project_id, started_at, completed_at, failed)
SELECT task_id, workspace_id, runtime_id, agent_id, project_id, started_at, completed_at, failed
FROM task
WHERE started_at IS NOT NULL
ON CONFLICT (task_id) DO UPDATE SET
    workspace_id = excluded.workspace_id,
    runtime_id = excluded.runtime_id,
    agent_id = excluded.agent_id,
    project_id = excluded.project_id,
    started_at = excluded.started_at,
    completed_at = excluded.completed_at,
    failed = excluded.failed
WHERE (f.workspace_id, f.runtime_id, f.agent_id, f.project_id, f.started_at, f.completed_at, f.failed)
    IS DISTINCT FROM
      (excluded.workspace_id, excluded.runtime_id, excluded.agent_id, excluded.project_id,
       excluded.started_at, excluded.completed_at, excluded.failed);

-- Buckets next, tables in the order of this file and rows in key order: drains of different shards share buckets,
-- and in any other order they deadlock. An added bucket below zero is possible only after somebody edited the
-- ledger by hand.

-- name: AddToUsageDaily :exec
INSERT INTO daybook.task_usage_daily AS b
SELECT unnest(@runtime_ids::uuid[]), unnest(@bucket_dates::date[]), unnest(@providers::text[]),
    unnest(@models::text[]), unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]),
    unnest(@cache_read_tokens::bigint[]), unnest(@cache_write_tokens::bigint[]), unnest(@event_counts::bigint[])
ORDER BY 1, 2, 3, 4
ON CONFLICT (runtime_id, bucket_date, provider, model) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count;

-- name: AddToUsageByAgent :exec
INSERT INTO daybook.task_usage_daily_by_agent AS b
SELECT unnest(@runtime_ids::uuid[]), unnest(@bucket_dates::date[]), unnest(@agent_ids::uuid[]),
    unnest(@providers::text[]), unnest(@models::text[]), unnest(@input_tokens::bigint[]),
    unnest(@output_tokens::bigint[]), unnest(@cache_read_tokens::bigint[]), unnest(@cache_write_tokens::bigint[]),
    unnest(@event_counts::bigint[]), unnest(@task_counts::bigint[])
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (runtime_id, bucket_date, agent_id, provider, model) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    task_count = b.task_count + excluded.task_count;

-- name: AddToUsageByHour :exec
INSERT INTO daybook.task_usage_daily_by_hour AS b
SELECT unnest(@runtime_ids::uuid[]), unnest(@bucket_dates::date[]), unnest(@hours::smallint[]),
    unnest(@providers::text[]), unnest(@models::text[]), unnest(@input_tokens::bigint[]),
    unnest(@output_tokens::bigint[]), unnest(@cache_read_tokens::bigint[]), unnest(@cache_write_tokens::bigint[]),
    unnest(@event_counts::bigint[]), unnest(@task_counts::bigint[])
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (runtime_id, bucket_date, hour, provider, model) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    task_count = b.task_count + excluded.task_count;

-- name: AddToActivityByHour :exec
INSERT INTO daybook.task_activity_by_hour AS b
SELECT unnest(@runtime_ids::uuid[]), unnest(@hours::smallint[]), unnest(@task_counts::bigint[])
ORDER BY 1, 2
ON CONFLICT (runtime_id, hour) DO UPDATE SET task_count = b.task_count + excluded.task_count;

-- name: AddToWorkspaceUsage :exec
INSERT INTO daybook.workspace_usage_daily AS b
SELECT unnest(@workspace_ids::uuid[]), unnest(@bucket_dates::date[]), unnest(@project_ids::uuid[]),
    unnest(@agent_ids::uuid[]), unnest(@providers::text[]), unnest(@models::text[]),
    unnest(@input_tokens::bigint[]), unnest(@output_tokens::bigint[]), unnest(@cache_read_tokens::bigint[]),
    unnest(@cache_write_tokens::bigint[]), unnest(@event_counts::bigint[]), unnest(@day_task_counts::bigint[]),
    unnest(@window_task_counts::bigint[])
ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (workspace_id, bucket_date, project_id, agent_id, provider, model) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    day_task_count = b.day_task_count + excluded.day_task_count,
    window_task_count = b.window_task_count + excluded.window_task_count;

-- name: AddToWorkspaceRunTime :exec
INSERT INTO daybook.workspace_run_time_daily AS b
SELECT unnest(@workspace_ids::uuid[]), unnest(@bucket_dates::date[]), unnest(@project_ids::uuid[]),
    unnest(@agent_ids::uuid[]), unnest(@total_microseconds::bigint[]), unnest(@task_counts::bigint[]),
    unnest(@failed_counts::bigint[])
ORDER BY 1, 2, 3, 4
ON CONFLICT (workspace_id, bucket_date, project_id, agent_id) DO UPDATE SET
    total_microseconds = b.total_microseconds + excluded.total_microseconds,
    task_count = b.task_count + excluded.task_count,
    failed_count = b.failed_count + excluded.failed_count;

-- Buckets that lost facts may have none left. The rows are locked by the statements above, so this waits for nobody.

-- name: DeleteEmptyUsageDaily :exec
DELETE FROM daybook.task_usage_daily b
USING (SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date) k
WHERE b.runtime_id = k.runtime_id AND b.bucket_date = k.bucket_date AND b.event_count = 0;

-- name: DeleteEmptyUsageByAgent :exec
DELETE FROM daybook.task_usage_daily_by_agent b
USING (SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date) k
WHERE b.runtime_id = k.runtime_id AND b.bucket_date = k.bucket_date AND b.event_count = 0;

-- name: DeleteEmptyUsageByHour :exec
DELETE FROM daybook.task_usage_daily_by_hour b
USING (SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date) k
WHERE b.runtime_id = k.runtime_id AND b.bucket_date = k.bucket_date AND b.event_count = 0;

-- name: DeleteEmptyActivityByHour :exec
DELETE FROM daybook.task_activity_by_hour b WHERE b.runtime_id = ANY(@runtime_ids::uuid[]) AND b.task_count = 0;

-- name: DeleteEmptyWorkspaceUsage :exec
DELETE FROM daybook.workspace_usage_daily b
USING (SELECT DISTINCT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date) k
WHERE b.workspace_id = k.workspace_id AND b.bucket_date = k.bucket_date AND b.event_count = 0;

-- name: DeleteEmptyWorkspaceRunTime :exec
DELETE FROM daybook.workspace_run_time_daily b
USING (SELECT DISTINCT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date) k
WHERE b.workspace_id = k.workspace_id AND b.bucket_date = k.bucket_date AND b.task_count = 0;

-- name: DeleteDirtyEntries :execrows
DELETE FROM daybook.task_usage_daily_dirty WHERE shard = @shard AND id = ANY(@ids::bigint[]);

-- name: ForgiveTasks :exec
DELETE FROM daybook.task_usage_daily_quarantine WHERE task_id = ANY(@task_ids::uuid[]);

-- name: QuarantineTask :exec
INSERT INTO daybook.task_usage_daily_quarantine (task_id, error)
VALUES (@task_id, @error)
ON CONFLICT (task_id) DO UPDATE SET error = excluded.error, quarantined_at = excluded.quarantined_at;

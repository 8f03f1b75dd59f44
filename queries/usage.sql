-- What the api answers. Each endpoint is one statement, so that an answer comes from one snapshot. If the caller may not see
-- the runtime, or there is none, there is no row; if it has no usage in the window, there is one row with a null date.

-- name: GetRuntimeUsage :many
-- While the buckets are not in the host's present zone, that is, a rebuild is pending, the facts answer in its place.
WITH runtime AS (
    SELECT h.id, zone.built,
        CASE WHEN zone.built THEN r.timezone ELSE daybook.effective_zone(h.timezone) END AS timezone
    FROM public.agent_runtime h
    JOIN public.member m ON m.workspace_id = h.workspace_id AND m.user_id = @user_id
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = h.id
    CROSS JOIN LATERAL (SELECT coalesce(r.host_timezone = coalesce(h.timezone, 'UTC'), false) AS built) zone
    WHERE h.id = @runtime_id
), bounds AS MATERIALIZED (
    -- Else the zone would be worked out again for every row.
    SELECT runtime.*, (now() AT TIME ZONE runtime.timezone)::date - @days::integer AS since FROM runtime
)
SELECT bounds.timezone::text AS timezone, bounds.built::boolean AS built,
    usage.bucket_date::date AS bucket_date, coalesce(usage.provider, '')::text AS provider, coalesce(usage.model, '')::text AS model,
    coalesce(usage.input_tokens, 0)::bigint AS input_tokens, coalesce(usage.output_tokens, 0)::bigint AS output_tokens,
    coalesce(usage.cache_read_tokens, 0)::bigint AS cache_read_tokens,
    coalesce(usage.cache_write_tokens, 0)::bigint AS cache_write_tokens
FROM bounds
LEFT JOIN LATERAL (
    SELECT b.bucket_date, b.provider, b.model, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens
    FROM daybook.task_usage_daily b
    WHERE bounds.built AND b.runtime_id = bounds.id AND b.bucket_date >= bounds.since
    UNION ALL
    -- The bound on created_at is for the index. It is in the same zone, since Postgres takes zones that are days from UTC. Two days
    -- spare are more than any zone's clocks have ever jumped.
    SELECT (f.created_at AT TIME ZONE bounds.timezone)::date AS bucket_date, f.provider, f.model,
        sum(f.input_tokens)::bigint, sum(f.output_tokens)::bigint, sum(f.cache_read_tokens)::bigint, sum(f.cache_write_tokens)::bigint
    FROM daybook.task_usage_fact f
    WHERE NOT bounds.built AND f.runtime_id = bounds.id
      AND f.created_at >= (bounds.since - 2)::timestamp AT TIME ZONE bounds.timezone
      AND (f.created_at AT TIME ZONE bounds.timezone)::date >= bounds.since
    GROUP BY 1, 2, 3
) usage ON true
ORDER BY usage.bucket_date DESC, usage.provider, usage.model;

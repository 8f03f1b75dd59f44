-- What each usage endpoint must answer: a plain GROUP BY on the host's tables and on nothing of Daybook's. The first three columns say which
-- question a row answers, the others are its fields, in order. Of many questions at once, so that a host is read ten times and not thousands.

-- endpoint: /api/runtimes/{runtimeId}/usage
SELECT r.id::text AS owner, d.days, '' AS project,
    r.id::text AS runtime_id, (u.created_at AT TIME ZONE r.zone)::date::text AS date, u.provider, u.model,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens
FROM unnest(@runtimes::uuid[], @zones::text[]) r (id, zone)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent_task_queue t ON t.runtime_id = r.id
JOIN public.task_usage u ON u.task_id = t.id
WHERE (u.created_at AT TIME ZONE r.zone)::date >= (now() AT TIME ZONE r.zone)::date - d.days
GROUP BY r.id, d.days, (u.created_at AT TIME ZONE r.zone)::date, u.provider, u.model
ORDER BY (u.created_at AT TIME ZONE r.zone)::date DESC, u.provider, u.model

-- endpoint: /api/runtimes/{runtimeId}/usage/by-agent
SELECT r.id::text AS owner, d.days, '' AS project,
    t.agent_id::text AS agent_id, u.model,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@runtimes::uuid[], @zones::text[]) r (id, zone)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent_task_queue t ON t.runtime_id = r.id
JOIN public.task_usage u ON u.task_id = t.id
WHERE (u.created_at AT TIME ZONE r.zone)::date >= (now() AT TIME ZONE r.zone)::date - d.days
GROUP BY r.id, d.days, t.agent_id, u.model
ORDER BY t.agent_id, u.model

-- endpoint: /api/runtimes/{runtimeId}/usage/by-hour
SELECT r.id::text AS owner, d.days, '' AS project,
    extract(hour FROM u.created_at AT TIME ZONE r.zone)::integer AS hour, u.model,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@runtimes::uuid[], @zones::text[]) r (id, zone)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent_task_queue t ON t.runtime_id = r.id
JOIN public.task_usage u ON u.task_id = t.id
WHERE (u.created_at AT TIME ZONE r.zone)::date >= (now() AT TIME ZONE r.zone)::date - d.days
GROUP BY r.id, d.days, extract(hour FROM u.created_at AT TIME ZONE r.zone), u.model
ORDER BY extract(hour FROM u.created_at AT TIME ZONE r.zone), u.model

-- endpoint: /api/runtimes/{runtimeId}/activity
SELECT r.id::text AS owner, 0 AS days, '' AS project,
    extract(hour FROM t.started_at AT TIME ZONE r.zone)::integer AS hour, count(*) AS count
FROM unnest(@runtimes::uuid[], @zones::text[]) r (id, zone)
JOIN public.agent_task_queue t ON t.runtime_id = r.id
WHERE t.started_at IS NOT NULL
GROUP BY r.id, extract(hour FROM t.started_at AT TIME ZONE r.zone)
ORDER BY extract(hour FROM t.started_at AT TIME ZONE r.zone)

-- endpoint: /api/usage/daily
SELECT w.id::text AS owner, d.days, '' AS project,
    (u.created_at AT TIME ZONE 'UTC')::date::text AS date, u.model,
    sum(u.input_tokens)::bigint AS total_input_tokens, sum(u.output_tokens)::bigint AS total_output_tokens,
    sum(u.cache_read_tokens)::bigint AS total_cache_read_tokens, sum(u.cache_write_tokens)::bigint AS total_cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@workspaces::uuid[]) w (id)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent a ON a.workspace_id = w.id
JOIN public.agent_task_queue t ON t.agent_id = a.id
JOIN public.task_usage u ON u.task_id = t.id
WHERE (u.created_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
GROUP BY w.id, d.days, (u.created_at AT TIME ZONE 'UTC')::date, u.model
ORDER BY (u.created_at AT TIME ZONE 'UTC')::date DESC, u.model

-- endpoint: /api/usage/summary
SELECT w.id::text AS owner, d.days, '' AS project,
    u.model,
    sum(u.input_tokens)::bigint AS total_input_tokens, sum(u.output_tokens)::bigint AS total_output_tokens,
    sum(u.cache_read_tokens)::bigint AS total_cache_read_tokens, sum(u.cache_write_tokens)::bigint AS total_cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@workspaces::uuid[]) w (id)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent a ON a.workspace_id = w.id
JOIN public.agent_task_queue t ON t.agent_id = a.id
JOIN public.task_usage u ON u.task_id = t.id
WHERE (u.created_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
GROUP BY w.id, d.days, u.model
ORDER BY sum(u.input_tokens::numeric + u.output_tokens) DESC, u.model

-- endpoint: /api/dashboard/usage/daily
SELECT w.id::text AS owner, d.days, coalesce(p.id::text, '') AS project,
    (u.created_at AT TIME ZONE 'UTC')::date::text AS date, u.model,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@workspaces::uuid[]) w (id)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent a ON a.workspace_id = w.id
JOIN public.agent_task_queue t ON t.agent_id = a.id
JOIN public.task_usage u ON u.task_id = t.id
LEFT JOIN public.issue i ON i.id = t.issue_id
JOIN unnest(array_prepend(NULL::uuid, @projects::uuid[])) p (id) ON p.id IS NULL OR p.id = i.project_id
WHERE (u.created_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
GROUP BY w.id, d.days, p.id, (u.created_at AT TIME ZONE 'UTC')::date, u.model
ORDER BY (u.created_at AT TIME ZONE 'UTC')::date DESC, u.model

-- endpoint: /api/dashboard/usage/by-agent
SELECT w.id::text AS owner, d.days, coalesce(p.id::text, '') AS project,
    a.id::text AS agent_id, u.model,
    sum(u.input_tokens)::bigint AS input_tokens, sum(u.output_tokens)::bigint AS output_tokens,
    sum(u.cache_read_tokens)::bigint AS cache_read_tokens, sum(u.cache_write_tokens)::bigint AS cache_write_tokens,
    count(DISTINCT u.task_id) AS task_count
FROM unnest(@workspaces::uuid[]) w (id)
CROSS JOIN unnest(@days::integer[]) d (days)
JOIN public.agent a ON a.workspace_id = w.id
JOIN public.agent_task_queue t ON t.agent_id = a.id
JOIN public.task_usage u ON u.task_id = t.id
LEFT JOIN public.issue i ON i.id = t.issue_id
JOIN unnest(array_prepend(NULL::uuid, @projects::uuid[])) p (id) ON p.id IS NULL OR p.id = i.project_id
WHERE (u.created_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
GROUP BY w.id, d.days, p.id, a.id, u.model
ORDER BY a.id, u.model

-- endpoint: /api/dashboard/agent-runtime
-- Whole microseconds, in integers, so that nothing but the last step rounds.
SELECT owner, days, project,
    agent_id, (sign(microseconds) * div(abs(microseconds) + 500000, 1000000))::bigint AS total_seconds, task_count, failed_count
FROM (
    SELECT w.id::text AS owner, d.days, coalesce(p.id::text, '') AS project, a.id::text AS agent_id,
        sum(1000000 * (extract(epoch FROM t.completed_at) - extract(epoch FROM t.started_at))) AS microseconds,
        count(*) AS task_count, count(*) FILTER (WHERE t.status = 'failed') AS failed_count
    FROM unnest(@workspaces::uuid[]) w (id)
    CROSS JOIN unnest(@days::integer[]) d (days)
    JOIN public.agent a ON a.workspace_id = w.id
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    JOIN unnest(array_prepend(NULL::uuid, @projects::uuid[])) p (id) ON p.id IS NULL OR p.id = i.project_id
    WHERE t.status IN ('completed', 'failed') AND t.started_at IS NOT NULL
      AND (t.completed_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
    GROUP BY w.id, d.days, p.id, a.id
) x
ORDER BY total_seconds DESC, agent_id

-- endpoint: /api/dashboard/runtime/daily
SELECT owner, days, project,
    date::text AS date, (sign(microseconds) * div(abs(microseconds) + 500000, 1000000))::bigint AS total_seconds, task_count, failed_count
FROM (
    SELECT w.id::text AS owner, d.days, coalesce(p.id::text, '') AS project, (t.completed_at AT TIME ZONE 'UTC')::date AS date,
        sum(1000000 * (extract(epoch FROM t.completed_at) - extract(epoch FROM t.started_at))) AS microseconds,
        count(*) AS task_count, count(*) FILTER (WHERE t.status = 'failed') AS failed_count
    FROM unnest(@workspaces::uuid[]) w (id)
    CROSS JOIN unnest(@days::integer[]) d (days)
    JOIN public.agent a ON a.workspace_id = w.id
    JOIN public.agent_task_queue t ON t.agent_id = a.id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    JOIN unnest(array_prepend(NULL::uuid, @projects::uuid[])) p (id) ON p.id IS NULL OR p.id = i.project_id
    WHERE t.status IN ('completed', 'failed') AND t.started_at IS NOT NULL
      AND (t.completed_at AT TIME ZONE 'UTC')::date > (now() AT TIME ZONE 'UTC')::date - d.days
    GROUP BY w.id, d.days, p.id, (t.completed_at AT TIME ZONE 'UTC')::date
) x
ORDER BY x.date DESC

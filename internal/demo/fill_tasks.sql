-- Tasks @first to @last of @tasks, and their usage. Every choice is a hash of the task's number and the seed, so the
-- same arguments give the same rows. A task's number follows its time, so rows lie on disk in about the
-- order in which a host would have written them.
--
-- Each step is MATERIALIZED since the planner would otherwise put the expressions of one step into the next, wherever
-- they are named there: that made this statement a hundred times slower.
WITH draw AS MATERIALIZED (
    SELECT n,
           (hashint8extended(n, hashtextextended('hot', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_hot,
           (hashint8extended(n, hashtextextended('runtime', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_runtime,
           (hashint8extended(n, hashtextextended('agent', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_agent,
           (hashint8extended(n, hashtextextended('move', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_move,
           (hashint8extended(n, hashtextextended('issue', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_issue,
           (hashint8extended(n, hashtextextended('weekend', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_weekend,
           (hashint8extended(n, hashtextextended('night', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_night,
           (hashint8extended(n, hashtextextended('hour', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_hour,
           (hashint8extended(n, hashtextextended('minute', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_minute,
           (hashint8extended(n, hashtextextended('wait', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_wait,
           (hashint8extended(n, hashtextextended('duration', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_duration,
           (hashint8extended(n, hashtextextended('status', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_status,
           (hashint8extended(n, hashtextextended('open', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_open,
           (hashint8extended(n, hashtextextended('rows', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_rows,
           (hashint8extended(n, hashtextextended('model', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_model
    FROM generate_series(@first::bigint, @last::bigint) n
), runtime AS MATERIALIZED (
    SELECT n AS r,
           1 + (n - 1) % @workspaces::int AS w,
           (@agents::int - n) / @runtimes::int + 1 AS agents,
           rt.id,
           -- Another runtime of the workspace, if it has one.
           md5('demo runtime ' || CASE WHEN n + @workspaces::int <= @runtimes::int THEN n + @workspaces::int
                                       ELSE 1 + (n - 1) % @workspaces::int END)::uuid AS next_id,
           rt.timezone
    FROM generate_series(1, @runtimes::int) n
    JOIN public.agent_runtime rt ON rt.id = md5('demo runtime ' || n)::uuid
), agent AS MATERIALIZED (
    SELECT n AS a, md5('demo agent ' || n)::uuid AS id
    FROM generate_series(1, @agents::int) n
), placed AS MATERIALIZED (
    -- Earlier runtimes are busier. With a hot runtime the others share what it leaves.
    SELECT draw.*,
           CASE WHEN @hot::float8 > 0 AND (u_hot < @hot::float8 OR @runtimes::int = 1) THEN 1
                WHEN @hot::float8 > 0 THEN 2 + floor((@runtimes::int - 1) * power(u_runtime, 1.5))::int
                ELSE 1 + floor(@runtimes::int * power(u_runtime, 1.5))::int END AS r,
           floor(@days::int * (1 - power((n - 0.5::float8) / @tasks::bigint, 0.8)))::int AS age
    FROM draw
), dated AS MATERIALIZED (
    -- Hours are those of the runtime's zone: most tasks come between 7 and 21 o'clock, some at night.
    SELECT placed.*, w, timezone, runtime.id AS runtime_id, next_id,
           r + @runtimes::int * floor(agents * u_agent)::int AS a,
           date_trunc('day', @until::timestamptz AT TIME ZONE timezone) - interval '1 day' * age
             + interval '1 hour' * CASE WHEN u_night < 0.15 THEN 24 * u_hour ELSE 7 + 7 * (u_hour + u_minute) END AS wall
    FROM placed
    JOIN runtime USING (r)
), rested AS MATERIALIZED (
    -- Most of a weekend's tasks were done from Monday to Friday already.
    SELECT dated.*,
           (wall - CASE WHEN extract(isodow FROM wall) > 5 AND u_weekend < 0.7 AND age < @days::int - 6
                        THEN interval '1 day' * (extract(isodow FROM wall)::int - 5 + floor(5 * u_weekend / 0.7)::int)
                        ELSE interval '0' END) AT TIME ZONE timezone AS instant
    FROM dated
), asked AS MATERIALIZED (
    SELECT rested.*,
           CASE WHEN instant > @until::timestamptz THEN instant - interval '24 hours' ELSE instant END AS created_at
    FROM rested
), timed AS MATERIALIZED (
    SELECT asked.*,
           created_at + interval '1 second' * (1 + 300 * power(u_wait, 3)) AS begins,
           created_at + interval '1 second' * (31 + 300 * power(u_wait, 3) + least(-900 * ln(1 - u_duration), 21600)) AS ends
    FROM asked
), judged AS MATERIALIZED (
    -- Only what is recent can still be open.
    SELECT timed.*,
           CASE WHEN begins > @until::timestamptz THEN 'queued'
                WHEN created_at > @until::timestamptz - interval '1 day' AND u_open < 0.04
                    THEN (ARRAY['queued', 'dispatched', 'running', 'running'])[1 + floor(u_open * 100)::int]
                WHEN ends > @until::timestamptz THEN 'running'
                WHEN u_status < 0.86 THEN 'completed'
                WHEN u_status < 0.95 THEN 'failed'
                ELSE 'cancelled' END AS status
    FROM timed
), task AS MATERIALIZED (
    SELECT n, u_rows, u_model,
           md5('demo task ' || n)::uuid AS id,
           agent.id AS agent_id,
           -- Some tasks ended up on another runtime of the workspace than their agent's; a few cancelled ones on none.
           CASE WHEN status = 'cancelled' AND u_move > 0.97 THEN NULL
                WHEN u_move < 0.03 THEN next_id
                ELSE runtime_id END AS runtime_id,
           -- An issue is busy for a while: tasks of about the same time share issues.
           CASE WHEN u_issue < 0.85
                THEN md5('demo issue ' || w + @workspaces::int * floor(
                         (@issues::int / @workspaces::int)
                         * least(greatest(n::float8 / @tasks::bigint + 0.1 * (u_issue / 0.85 - 0.5), 0), 0.999999))::int)::uuid
                END AS issue_id,
           status,
           created_at,
           CASE WHEN status NOT IN ('queued', 'dispatched') AND NOT (status = 'cancelled' AND u_status > 0.98)
                THEN begins END AS started_at,
           CASE WHEN status = 'cancelled' AND u_status > 0.98 THEN begins
                WHEN status IN ('completed', 'failed', 'cancelled') THEN ends END AS completed_at
    FROM judged
    JOIN agent USING (a)
), tasks AS (
    INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, issue_id, status, created_at, started_at, completed_at)
    SELECT id, agent_id, runtime_id, issue_id, status, created_at, started_at, completed_at
    FROM task
    ORDER BY n
)
INSERT INTO public.task_usage (id, task_id, provider, model, input_tokens, output_tokens, cache_read_tokens,
                               cache_write_tokens, created_at, updated_at)
SELECT md5('demo usage ' || n || ' ' || k)::uuid,
       task.id,
       (@providers::text[])[pick],
       (@models::text[])[pick],
       200 + floor(40000 * power(u_input, 3))::bigint,
       50 + floor(12000 * power(u_output, 3))::bigint,
       CASE WHEN u_cache < 0.2 THEN 0 ELSE floor(900000 * power(u_cache, 4))::bigint END,
       CASE WHEN pick % 2 = 0 THEN 0 ELSE floor(60000 * power(u_input, 2))::bigint END,
       at,
       CASE WHEN u_cache > 0.1 THEN least(at + interval '1 minute' * u_output, @until::timestamptz) END
FROM task
CROSS JOIN LATERAL generate_series(0, CASE WHEN u_rows < 0.6 THEN 0 WHEN u_rows < 0.9 THEN 1 ELSE 2 END) k
CROSS JOIN LATERAL (
    SELECT 1 + (floor(cardinality(@models::text[]) * power(u_model, 1.5))::int + k) % cardinality(@models::text[]) AS pick,
           (hashint8extended(n * 4 + k, hashtextextended('input', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_input,
           (hashint8extended(n * 4 + k, hashtextextended('output', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_output,
           (hashint8extended(n * 4 + k, hashtextextended('cache', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_cache,
           (hashint8extended(n * 4 + k, hashtextextended('at', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_at
) AS counts
CROSS JOIN LATERAL (
    SELECT started_at + (coalesce(completed_at, @until::timestamptz) - started_at)
         * ((k + u_at) / CASE WHEN u_rows < 0.6 THEN 1 WHEN u_rows < 0.9 THEN 2 ELSE 3 END) AS at
) AS moment
WHERE started_at IS NOT NULL
ORDER BY n, k;

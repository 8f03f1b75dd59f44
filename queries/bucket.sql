-- How a drain writes buckets: tables in the order of the first statements of this file and rows in key order, those of no project last. Drains
-- of different shards share buckets, and in any other order they deadlock. The row of a bucket is the one of the highest generation: see
-- migrations/0012_create_generations.sql. Where a project is null the rows are sorted by project too: only that is the order of the index, so
-- that the search ends with the first of them.

-- First the buckets that are there, nearly all: to update a row costs half of what an insert does that meets it. n is the number of a bucket in
-- the arrays. Returned is n of each bucket that was not there, or that another drain has raised or deleted since this statement began, and -n
-- of each that may be empty or below zero now.

-- name: UpdateUsageDaily :many
-- To be one of an array, and not equal, is nothing to merge or hash by: else a plan from when the table was small would read its whole index.
WITH change AS (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@event_counts::bigint[]) AS event_count, generate_subscripts(@runtime_ids::uuid[], 1) AS n
), written AS (
    UPDATE daybook.bucket_usage_daily b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.generation FROM daybook.bucket_usage_daily x
            WHERE x.runtime_id = c.runtime_id AND x.bucket_date = c.bucket_date AND x.name_id = c.name_id
            ORDER BY x.generation DESC LIMIT 1) AS generation
        FROM change c
        ORDER BY c.runtime_id, c.bucket_date, c.name_id
    ) d
    WHERE b.runtime_id = ANY (ARRAY[d.runtime_id]) AND b.bucket_date = d.bucket_date AND b.name_id = d.name_id
      AND b.generation >= d.generation
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0) AS is_low
)
SELECT s.n::integer AS n FROM generate_subscripts(@runtime_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateUsageByAgent :many
WITH change AS (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@event_counts::bigint[]) AS event_count, unnest(@task_counts::bigint[]) AS task_count,
        generate_subscripts(@runtime_ids::uuid[], 1) AS n
), written AS (
    UPDATE daybook.bucket_usage_by_agent b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        task_count = b.task_count + d.task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.bucket_usage_by_agent x
            WHERE x.runtime_id = c.runtime_id AND x.bucket_date = c.bucket_date AND x.agent_id = c.agent_id AND x.name_id = c.name_id
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        ORDER BY c.runtime_id, c.bucket_date, c.agent_id, c.name_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0 OR b.task_count < 0) AS is_low
)
SELECT s.n::integer AS n FROM generate_subscripts(@runtime_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateUsageByHour :many
WITH change AS (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@hours::smallint[]) AS hour, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@event_counts::bigint[]) AS event_count, unnest(@task_counts::bigint[]) AS task_count,
        generate_subscripts(@runtime_ids::uuid[], 1) AS n
), written AS (
    UPDATE daybook.bucket_usage_by_hour b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        task_count = b.task_count + d.task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.bucket_usage_by_hour x
            WHERE x.runtime_id = c.runtime_id AND x.bucket_date = c.bucket_date AND x.hour = c.hour AND x.name_id = c.name_id
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        ORDER BY c.runtime_id, c.bucket_date, c.hour, c.name_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0 OR b.task_count < 0) AS is_low
)
SELECT s.n::integer AS n FROM generate_subscripts(@runtime_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateActivityByHour :many
WITH change AS (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@hours::smallint[]) AS hour,
        unnest(@task_counts::bigint[]) AS task_count, generate_subscripts(@runtime_ids::uuid[], 1) AS n
), written AS (
    UPDATE daybook.task_activity_by_hour b SET
        task_count = b.task_count + d.task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.task_activity_by_hour x
            WHERE x.runtime_id = c.runtime_id AND x.hour = c.hour
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        ORDER BY c.runtime_id, c.hour
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.task_count <= 0) AS is_low
)
SELECT s.n::integer AS n FROM generate_subscripts(@runtime_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateWorkspaceUsage :many
WITH change AS (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@project_ids::uuid[]) AS project_id, unnest(@agent_ids::uuid[]) AS agent_id,
        unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@event_counts::bigint[]) AS event_count, unnest(@day_task_counts::bigint[]) AS day_task_count,
        unnest(@window_task_counts::bigint[]) AS window_task_count, generate_subscripts(@workspace_ids::uuid[], 1) AS n
), of_projects AS (
    UPDATE daybook.bucket_workspace_usage b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        day_task_count = b.day_task_count + d.day_task_count,
        window_task_count = b.window_task_count + d.window_task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.bucket_workspace_usage x
            WHERE x.workspace_id = c.workspace_id AND x.bucket_date = c.bucket_date AND x.project_id = c.project_id AND x.agent_id = c.agent_id AND x.name_id = c.name_id
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        WHERE c.project_id IS NOT NULL
        ORDER BY c.workspace_id, c.bucket_date, c.project_id, c.agent_id, c.name_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0 OR b.day_task_count < 0 OR b.window_task_count < 0) AS is_low
), others AS (
    UPDATE daybook.bucket_workspace_usage b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        day_task_count = b.day_task_count + d.day_task_count,
        window_task_count = b.window_task_count + d.window_task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.bucket_workspace_usage x
            WHERE x.workspace_id = c.workspace_id AND x.bucket_date = c.bucket_date AND x.project_id IS NULL AND x.agent_id = c.agent_id AND x.name_id = c.name_id
            ORDER BY x.project_id DESC, x.generation DESC LIMIT 1) AS place
        FROM change c
        WHERE c.project_id IS NULL AND (SELECT count(*) FROM of_projects) >= 0
        ORDER BY c.workspace_id, c.bucket_date, c.agent_id, c.name_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0 OR b.day_task_count < 0 OR b.window_task_count < 0) AS is_low
), written AS (
    SELECT n, is_low FROM of_projects UNION ALL SELECT n, is_low FROM others
)
SELECT s.n::integer AS n FROM generate_subscripts(@workspace_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateWorkspaceUsageByAgent :many
WITH change AS (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens, unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens,
        unnest(@event_counts::bigint[]) AS event_count, unnest(@day_task_counts::bigint[]) AS day_task_count,
        unnest(@window_task_counts::bigint[]) AS window_task_count,
        generate_subscripts(@workspace_ids::uuid[], 1) AS n
), written AS (
    UPDATE daybook.bucket_workspace_usage_by_agent b SET
        input_tokens = b.input_tokens + d.input_tokens,
        output_tokens = b.output_tokens + d.output_tokens,
        cache_read_tokens = b.cache_read_tokens + d.cache_read_tokens,
        cache_write_tokens = b.cache_write_tokens + d.cache_write_tokens,
        event_count = b.event_count + d.event_count,
        day_task_count = b.day_task_count + d.day_task_count,
        window_task_count = b.window_task_count + d.window_task_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.bucket_workspace_usage_by_agent x
            WHERE x.workspace_id = c.workspace_id AND x.bucket_date = c.bucket_date AND x.agent_id = c.agent_id AND x.name_id = c.name_id
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        ORDER BY c.workspace_id, c.bucket_date, c.agent_id, c.name_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.event_count <= 0 OR b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0 OR b.day_task_count < 0 OR b.window_task_count < 0) AS is_low
)
SELECT s.n::integer AS n FROM generate_subscripts(@workspace_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- name: UpdateWorkspaceRunTime :many
WITH change AS (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@project_ids::uuid[]) AS project_id, unnest(@agent_ids::uuid[]) AS agent_id,
        unnest(@total_microseconds::bigint[]) AS total_microseconds, unnest(@task_counts::bigint[]) AS task_count,
        unnest(@failed_counts::bigint[]) AS failed_count, generate_subscripts(@workspace_ids::uuid[], 1) AS n
), of_projects AS (
    UPDATE daybook.workspace_run_time_daily b SET
        total_microseconds = b.total_microseconds + d.total_microseconds,
        task_count = b.task_count + d.task_count,
        failed_count = b.failed_count + d.failed_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.workspace_run_time_daily x
            WHERE x.workspace_id = c.workspace_id AND x.bucket_date = c.bucket_date AND x.project_id = c.project_id AND x.agent_id = c.agent_id
            ORDER BY x.generation DESC LIMIT 1) AS place
        FROM change c
        WHERE c.project_id IS NOT NULL
        ORDER BY c.workspace_id, c.bucket_date, c.project_id, c.agent_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.task_count <= 0 OR b.total_microseconds < 0 OR b.failed_count < 0) AS is_low
), others AS (
    UPDATE daybook.workspace_run_time_daily b SET
        total_microseconds = b.total_microseconds + d.total_microseconds,
        task_count = b.task_count + d.task_count,
        failed_count = b.failed_count + d.failed_count,
        generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
        writes = (b.writes + 1) % daybook.writes_per_generation()
    FROM (
        SELECT c.*, (SELECT x.ctid FROM daybook.workspace_run_time_daily x
            WHERE x.workspace_id = c.workspace_id AND x.bucket_date = c.bucket_date AND x.project_id IS NULL AND x.agent_id = c.agent_id
            ORDER BY x.project_id DESC, x.generation DESC LIMIT 1) AS place
        FROM change c
        WHERE c.project_id IS NULL AND (SELECT count(*) FROM of_projects) >= 0
        ORDER BY c.workspace_id, c.bucket_date, c.agent_id
    ) d
    WHERE b.ctid = d.place
    RETURNING d.n, (b.task_count <= 0 OR b.total_microseconds < 0 OR b.failed_count < 0) AS is_low
), written AS (
    SELECT n, is_low FROM of_projects UNION ALL SELECT n, is_low FROM others
)
SELECT s.n::integer AS n FROM generate_subscripts(@workspace_ids::uuid[], 1) AS s (n) WHERE s.n NOT IN (SELECT w.n FROM written w)
UNION ALL
SELECT -w.n FROM written w WHERE w.is_low;

-- Then the others. These statements look again.

-- name: AddToUsageDaily :exec
INSERT INTO daybook.bucket_usage_daily AS b (
    runtime_id, bucket_date, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, generation)
SELECT d.*, coalesce((
    SELECT x.generation FROM daybook.bucket_usage_daily x
    WHERE x.runtime_id = d.runtime_id AND x.bucket_date = d.bucket_date AND x.name_id = d.name_id
    ORDER BY x.generation DESC LIMIT 1), 0)
FROM (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens,
        unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens, unnest(@event_counts::bigint[]) AS event_count
) d
ORDER BY 1, 2, 3
ON CONFLICT (runtime_id, bucket_date, name_id, generation) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToUsageByAgent :exec
INSERT INTO daybook.bucket_usage_by_agent AS b (
    runtime_id, bucket_date, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count, generation)
SELECT d.*, coalesce((
    SELECT x.generation FROM daybook.bucket_usage_by_agent x
    WHERE x.runtime_id = d.runtime_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id AND x.name_id = d.name_id
    ORDER BY x.generation DESC LIMIT 1), 0)
FROM (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens,
        unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens, unnest(@event_counts::bigint[]) AS event_count,
        unnest(@task_counts::bigint[]) AS task_count
) d
ORDER BY 1, 2, 3, 4
ON CONFLICT (runtime_id, bucket_date, agent_id, name_id, generation) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    task_count = b.task_count + excluded.task_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToUsageByHour :exec
INSERT INTO daybook.bucket_usage_by_hour AS b (
    runtime_id, bucket_date, hour, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count, generation)
SELECT d.*, coalesce((
    SELECT x.generation FROM daybook.bucket_usage_by_hour x
    WHERE x.runtime_id = d.runtime_id AND x.bucket_date = d.bucket_date AND x.hour = d.hour AND x.name_id = d.name_id
    ORDER BY x.generation DESC LIMIT 1), 0)
FROM (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@hours::smallint[]) AS hour, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens,
        unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens, unnest(@event_counts::bigint[]) AS event_count,
        unnest(@task_counts::bigint[]) AS task_count
) d
ORDER BY 1, 2, 3, 4
ON CONFLICT (runtime_id, bucket_date, hour, name_id, generation) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    task_count = b.task_count + excluded.task_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToActivityByHour :exec
INSERT INTO daybook.task_activity_by_hour AS b
SELECT d.*, coalesce((
    SELECT x.generation FROM daybook.task_activity_by_hour x
    WHERE x.runtime_id = d.runtime_id AND x.hour = d.hour
    ORDER BY x.generation DESC LIMIT 1), 0)
FROM (
    SELECT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@hours::smallint[]) AS hour,
        unnest(@task_counts::bigint[]) AS task_count
) d
ORDER BY 1, 2
ON CONFLICT (runtime_id, hour, generation) DO UPDATE SET
    task_count = b.task_count + excluded.task_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToWorkspaceUsage :exec
INSERT INTO daybook.bucket_workspace_usage AS b (
    workspace_id, bucket_date, project_id, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count, generation)
SELECT d.*, coalesce(CASE WHEN d.project_id IS NULL
    THEN (SELECT x.generation FROM daybook.bucket_workspace_usage x
        WHERE x.project_id IS NULL AND x.workspace_id = d.workspace_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id AND x.name_id = d.name_id
        ORDER BY x.project_id DESC, x.generation DESC LIMIT 1)
    ELSE (SELECT x.generation FROM daybook.bucket_workspace_usage x
        WHERE x.project_id = d.project_id AND x.workspace_id = d.workspace_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id AND x.name_id = d.name_id
        ORDER BY x.generation DESC LIMIT 1) END, 0)
FROM (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@project_ids::uuid[]) AS project_id, unnest(@agent_ids::uuid[]) AS agent_id,
        unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens,
        unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens, unnest(@event_counts::bigint[]) AS event_count,
        unnest(@day_task_counts::bigint[]) AS day_task_count, unnest(@window_task_counts::bigint[]) AS window_task_count
) d
ORDER BY d.project_id IS NULL, 1, 2, 3, 4, 5
ON CONFLICT (workspace_id, bucket_date, project_id, agent_id, name_id, generation) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    day_task_count = b.day_task_count + excluded.day_task_count,
    window_task_count = b.window_task_count + excluded.window_task_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToWorkspaceUsageByAgent :exec
INSERT INTO daybook.bucket_workspace_usage_by_agent AS b (
    workspace_id, bucket_date, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count, generation)
SELECT d.*, coalesce((
    SELECT x.generation FROM daybook.bucket_workspace_usage_by_agent x
    WHERE x.workspace_id = d.workspace_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id AND x.name_id = d.name_id
    ORDER BY x.generation DESC LIMIT 1), 0)
FROM (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@agent_ids::uuid[]) AS agent_id, unnest(@name_ids::integer[]) AS name_id,
        unnest(@input_tokens::bigint[]) AS input_tokens, unnest(@output_tokens::bigint[]) AS output_tokens,
        unnest(@cache_read_tokens::bigint[]) AS cache_read_tokens,
        unnest(@cache_write_tokens::bigint[]) AS cache_write_tokens, unnest(@event_counts::bigint[]) AS event_count,
        unnest(@day_task_counts::bigint[]) AS day_task_count, unnest(@window_task_counts::bigint[]) AS window_task_count
) d
ORDER BY 1, 2, 3, 4
ON CONFLICT (workspace_id, bucket_date, agent_id, name_id, generation) DO UPDATE SET
    input_tokens = b.input_tokens + excluded.input_tokens,
    output_tokens = b.output_tokens + excluded.output_tokens,
    cache_read_tokens = b.cache_read_tokens + excluded.cache_read_tokens,
    cache_write_tokens = b.cache_write_tokens + excluded.cache_write_tokens,
    event_count = b.event_count + excluded.event_count,
    day_task_count = b.day_task_count + excluded.day_task_count,
    window_task_count = b.window_task_count + excluded.window_task_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- name: AddToWorkspaceRunTime :exec
INSERT INTO daybook.workspace_run_time_daily AS b
SELECT d.*, coalesce(CASE WHEN d.project_id IS NULL
    THEN (SELECT x.generation FROM daybook.workspace_run_time_daily x
        WHERE x.project_id IS NULL AND x.workspace_id = d.workspace_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id
        ORDER BY x.project_id DESC, x.generation DESC LIMIT 1)
    ELSE (SELECT x.generation FROM daybook.workspace_run_time_daily x
        WHERE x.project_id = d.project_id AND x.workspace_id = d.workspace_id AND x.bucket_date = d.bucket_date AND x.agent_id = d.agent_id
        ORDER BY x.generation DESC LIMIT 1) END, 0)
FROM (
    SELECT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date,
        unnest(@project_ids::uuid[]) AS project_id, unnest(@agent_ids::uuid[]) AS agent_id,
        unnest(@total_microseconds::bigint[]) AS total_microseconds, unnest(@task_counts::bigint[]) AS task_count,
        unnest(@failed_counts::bigint[]) AS failed_count
) d
ORDER BY d.project_id IS NULL, 1, 2, 3, 4
ON CONFLICT (workspace_id, bucket_date, project_id, agent_id, generation) DO UPDATE SET
    total_microseconds = b.total_microseconds + excluded.total_microseconds,
    task_count = b.task_count + excluded.task_count,
    failed_count = b.failed_count + excluded.failed_count,
    generation = b.generation + (b.writes + 1) / daybook.writes_per_generation(),
    writes = (b.writes + 1) % daybook.writes_per_generation();

-- Buckets from which something was taken back may have no facts left. The rows are locked by the statements above, so this waits for nobody.
-- Returned is whose buckets are below zero, or hold something of no fact, which can only be after somebody changed the ledger by hand.
-- no_negatives: the host has no negative numbers here, so sums below zero are wrong too.

-- name: DeleteEmptyUsageDaily :many
WITH lost AS (
    SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.bucket_usage_daily b USING lost
    WHERE b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date AND b.event_count <= 0
)
SELECT DISTINCT b.runtime_id
FROM daybook.bucket_usage_daily b
JOIN lost ON b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date
WHERE b.event_count < 0
   OR (b.event_count = 0 AND (b.input_tokens <> 0 OR b.output_tokens <> 0 OR b.cache_read_tokens <> 0 OR b.cache_write_tokens <> 0))
   OR (@no_negatives::boolean AND (b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0));

-- name: DeleteEmptyUsageByAgent :many
WITH lost AS (
    SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.bucket_usage_by_agent b USING lost
    WHERE b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date AND b.event_count <= 0
)
SELECT DISTINCT b.runtime_id
FROM daybook.bucket_usage_by_agent b
JOIN lost ON b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date
WHERE b.event_count < 0 OR b.task_count < 0
   OR (b.event_count = 0 AND (b.input_tokens <> 0 OR b.output_tokens <> 0 OR b.cache_read_tokens <> 0 OR b.cache_write_tokens <> 0))
   OR (@no_negatives::boolean AND (b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0));

-- name: DeleteEmptyUsageByHour :many
WITH lost AS (
    SELECT DISTINCT unnest(@runtime_ids::uuid[]) AS runtime_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.bucket_usage_by_hour b USING lost
    WHERE b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date AND b.event_count <= 0
)
SELECT DISTINCT b.runtime_id
FROM daybook.bucket_usage_by_hour b
JOIN lost ON b.runtime_id = lost.runtime_id AND b.bucket_date = lost.bucket_date
WHERE b.event_count < 0 OR b.task_count < 0
   OR (b.event_count = 0 AND (b.input_tokens <> 0 OR b.output_tokens <> 0 OR b.cache_read_tokens <> 0 OR b.cache_write_tokens <> 0))
   OR (@no_negatives::boolean AND (b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0));

-- name: DeleteEmptyActivityByHour :many
WITH deleted AS (
    DELETE FROM daybook.task_activity_by_hour b WHERE b.runtime_id = ANY(@runtime_ids::uuid[]) AND b.task_count <= 0
)
SELECT DISTINCT b.runtime_id
FROM daybook.task_activity_by_hour b
WHERE b.runtime_id = ANY(@runtime_ids::uuid[]) AND b.task_count < 0;

-- name: DeleteEmptyWorkspaceUsage :many
WITH lost AS (
    SELECT DISTINCT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.bucket_workspace_usage b USING lost
    WHERE b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date AND b.event_count <= 0
)
SELECT DISTINCT b.workspace_id
FROM daybook.bucket_workspace_usage b
JOIN lost ON b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date
WHERE b.event_count < 0 OR b.day_task_count < 0 OR b.window_task_count < 0
   OR (b.event_count = 0 AND (b.input_tokens <> 0 OR b.output_tokens <> 0 OR b.cache_read_tokens <> 0 OR b.cache_write_tokens <> 0))
   OR (@no_negatives::boolean AND (b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0));

-- name: DeleteEmptyWorkspaceUsageByAgent :many
WITH lost AS (
    SELECT DISTINCT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.bucket_workspace_usage_by_agent b USING lost
    WHERE b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date AND b.event_count <= 0
)
SELECT DISTINCT b.workspace_id
FROM daybook.bucket_workspace_usage_by_agent b
JOIN lost ON b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date
WHERE b.event_count < 0 OR b.day_task_count < 0 OR b.window_task_count < 0
   OR (b.event_count = 0 AND (b.input_tokens <> 0 OR b.output_tokens <> 0 OR b.cache_read_tokens <> 0 OR b.cache_write_tokens <> 0))
   OR (@no_negatives::boolean AND (b.input_tokens < 0 OR b.output_tokens < 0 OR b.cache_read_tokens < 0 OR b.cache_write_tokens < 0));

-- name: DeleteEmptyWorkspaceRunTime :many
WITH lost AS (
    SELECT DISTINCT unnest(@workspace_ids::uuid[]) AS workspace_id, unnest(@bucket_dates::date[]) AS bucket_date
), deleted AS (
    DELETE FROM daybook.workspace_run_time_daily b USING lost
    WHERE b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date AND b.task_count <= 0
)
SELECT DISTINCT b.workspace_id
FROM daybook.workspace_run_time_daily b
JOIN lost ON b.workspace_id = lost.workspace_id AND b.bucket_date = lost.bucket_date
WHERE b.task_count < 0 OR b.failed_count < 0
   OR (b.task_count = 0 AND (b.total_microseconds <> 0))
   OR (@no_negatives::boolean AND (b.total_microseconds < 0));

-- Days that are closed: their facts are gone and their buckets stay as they are. And what a usage fact adds to the rollups of workspaces,
-- as a view.

-- +goose Up

ALTER TABLE daybook.coverage ADD COLUMN closed_before date NOT NULL DEFAULT '-infinity';
COMMENT ON COLUMN daybook.coverage.closed_before IS 'Buckets of earlier days, in whatever zone, do not change any more. It only grows, with all shards locked.';

CREATE FUNCTION daybook.closed_before() RETURNS date
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT c.closed_before FROM daybook.coverage c), '-infinity')
$$;

-- kept_from is the instant from which on usage has facts. What is before it is before closed_before in every zone: Postgres takes none that is
-- a week ahead of UTC. (Those that have a name are 14 hours ahead at the most.)
CREATE FUNCTION daybook.kept_from() RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (daybook.closed_before()::timestamp AT TIME ZONE 'UTC') - interval '7 days'
$$;

CREATE TABLE daybook.refused_change (
    one_row   boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    tasks     bigint NOT NULL DEFAULT 0,
    last_task uuid,
    last_at   timestamptz
);
INSERT INTO daybook.refused_change DEFAULT VALUES;
COMMENT ON TABLE daybook.refused_change IS 'How often a task changed that has usage from before kept_from, which is not counted again.';

-- As before, and whether the day is open. Drains compute that for their tasks too (queries/drain.sql).
CREATE OR REPLACE VIEW daybook.usage_contribution AS
SELECT
    task_id, runtime_id, agent_id, provider, model,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    local_date, local_hour,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C"
        ORDER BY local_date DESC, created_at DESC, provider COLLATE "C") = 1 AS counts_in_agent,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C", local_hour
        ORDER BY local_date DESC, created_at DESC, provider COLLATE "C") = 1 AS counts_in_hour,
    local_date >= (SELECT daybook.closed_before()) AS is_open
FROM (
    SELECT
        f.*,
        (f.created_at AT TIME ZONE r.timezone)::date AS local_date,
        date_part('hour', f.created_at AT TIME ZONE r.timezone)::smallint AS local_hour
    FROM daybook.task_usage_fact f
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = f.runtime_id
) dated;

-- workspace_contribution is the same for the rollup of workspaces, in UTC, where a later instant never has an earlier date.
CREATE VIEW daybook.workspace_contribution AS
SELECT
    task_id, workspace_id, project_id, agent_id, provider, model,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    utc_date,
    row_number() OVER (PARTITION BY task_id, workspace_id, model COLLATE "C", utc_date
        ORDER BY created_at DESC, provider COLLATE "C") = 1 AS counts_in_day,
    row_number() OVER (PARTITION BY task_id, workspace_id, model COLLATE "C"
        ORDER BY created_at DESC, provider COLLATE "C") = 1 AS counts_in_window,
    utc_date >= (SELECT daybook.closed_before()) AS is_open
FROM (
    SELECT f.*, (f.created_at AT TIME ZONE 'UTC')::date AS utc_date
    FROM daybook.task_usage_fact f
) dated;

-- counted tells whether all that the host has is counted, or has an entry.
CREATE FUNCTION daybook.counted() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(daybook.attached() AND backfill_listed_at > attached_at AND backfill_finished_at IS NOT NULL, false)
    FROM daybook.coverage
$$;

-- +goose Down
DROP FUNCTION daybook.counted();
DROP VIEW daybook.workspace_contribution;
-- The view loses its last column again.
DROP VIEW daybook.usage_contribution;
CREATE VIEW daybook.usage_contribution AS
SELECT
    task_id, runtime_id, agent_id, provider, model,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    local_date, local_hour,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C"
        ORDER BY local_date DESC, created_at DESC, provider COLLATE "C") = 1 AS counts_in_agent,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C", local_hour
        ORDER BY local_date DESC, created_at DESC, provider COLLATE "C") = 1 AS counts_in_hour
FROM (
    SELECT
        f.*,
        (f.created_at AT TIME ZONE r.timezone)::date AS local_date,
        date_part('hour', f.created_at AT TIME ZONE r.timezone)::smallint AS local_hour
    FROM daybook.task_usage_fact f
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = f.runtime_id
) dated;
DROP TABLE daybook.refused_change;
DROP FUNCTION daybook.kept_from();
DROP FUNCTION daybook.closed_before();
ALTER TABLE daybook.coverage DROP COLUMN closed_before;

-- The ledger (facts), the zone that each runtime's buckets are built in, and what a fact contributes to buckets.

-- +goose Up

-- +goose StatementBegin
-- effective_zone is the zone that Daybook counts in for a host's zone name: the name itself if this Postgres
-- knows it, else UTC.
CREATE FUNCTION daybook.effective_zone(zone text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM now() AT TIME ZONE zone;
    RETURN coalesce(zone, 'UTC');
EXCEPTION
    WHEN invalid_parameter_value THEN
        RETURN 'UTC';
END
$$;
-- +goose StatementEnd

CREATE TABLE daybook.runtime_rollup (
    runtime_id    uuid PRIMARY KEY,
    timezone      text NOT NULL,
    host_timezone text NOT NULL,
    rebuilt_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE daybook.runtime_rollup IS 'The zone that a runtime''s buckets are built in. Written when a runtime is first counted, then only by a rebuild.';
COMMENT ON COLUMN daybook.runtime_rollup.timezone IS 'The zone in use; UTC if Postgres does not know host_timezone.';
COMMENT ON COLUMN daybook.runtime_rollup.host_timezone IS 'agent_runtime.timezone as it was read for timezone. If the host''s differs now, a rebuild is pending.';

CREATE TABLE daybook.task_fact (
    task_id      uuid PRIMARY KEY,
    workspace_id uuid,
    runtime_id   uuid,
    agent_id     uuid NOT NULL,
    project_id   uuid,
    started_at   timestamptz NOT NULL,
    completed_at timestamptz,
    failed       boolean NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX task_fact_runtime_idx ON daybook.task_fact (runtime_id);
COMMENT ON TABLE daybook.task_fact IS 'What the rollups count now for each task that was started. completed_at is set for completed and failed tasks only.';

CREATE TABLE daybook.task_usage_fact (
    task_id            uuid NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    workspace_id       uuid,
    runtime_id         uuid,
    agent_id           uuid NOT NULL,
    project_id         uuid,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    created_at         timestamptz NOT NULL,
    PRIMARY KEY (task_id, provider, model)
) WITH (fillfactor = 90); -- Counts that are overwritten stay on their page (HOT), so no index changes.
CREATE INDEX task_usage_fact_runtime_idx ON daybook.task_usage_fact (runtime_id, created_at);
COMMENT ON TABLE daybook.task_usage_fact IS 'What the rollups count now for each usage row.';

CREATE TABLE daybook.task_usage_daily_quarantine (
    task_id        uuid PRIMARY KEY,
    error          text NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE daybook.task_usage_daily_quarantine IS 'Tasks that cannot be applied, with the reason. Their last good facts stay counted. A task is tried again when it changes.';

-- usage_contribution says what a usage fact adds to which zone-dependent bucket, for rebuilds of whole runtimes. A drain computes the same
-- for its few tasks (package rollup, contribution.go), so a change here is a change there.
--
-- Every window that is read ends now, so a task counts in the bucket of its latest row of a group, and a sum
-- over any window is the exact distinct count. Latest is by bucket date first: in a zone that turns its
-- clocks back across midnight, a later instant can have an earlier date.
--
-- runtime_id stands in every PARTITION BY, though task_id decides it, so that a condition on either reaches the index.
-- Equality is the same in every collation, and "C" sorts fastest.
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

-- task_contribution is the same for tasks: one start in an hour of the runtime's day.
CREATE VIEW daybook.task_contribution AS
SELECT
    f.task_id, f.runtime_id,
    date_part('hour', f.started_at AT TIME ZONE r.timezone)::smallint AS local_hour
FROM daybook.task_fact f
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = f.runtime_id;

-- +goose Down
DROP VIEW daybook.task_contribution;
DROP VIEW daybook.usage_contribution;
DROP TABLE daybook.task_usage_daily_quarantine;
DROP TABLE daybook.task_usage_fact;
DROP TABLE daybook.task_fact;
DROP TABLE daybook.runtime_rollup;
DROP FUNCTION daybook.effective_zone(text);

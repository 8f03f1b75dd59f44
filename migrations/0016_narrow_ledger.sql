-- Small numbers in the place of what facts and buckets repeat: of a provider and a model, and of the four ids that a task's facts have in
-- common. Facts and buckets take half the space, keys are compared faster, and less of the log is written.
--
-- What holds the rows has new names: ledger_… for facts, bucket_… for the rollups of usage. Views of the old names show the rows as they were, and
-- are for queries of one's own; nothing of Daybook reads them. Workers and apis of the version before fail until they are replaced, and lose nothing.

-- +goose Up

-- Drains and rebuilds wait until this is committed. The host goes on, and so does the api until the last moment.
LOCK TABLE daybook.task_fact, daybook.task_usage_fact, daybook.task_usage_daily, daybook.task_usage_daily_by_agent, daybook.task_usage_daily_by_hour,
    daybook.workspace_usage_daily, daybook.workspace_usage_daily_by_agent IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE daybook.usage_name (
    id       integer NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    model    text NOT NULL,
    UNIQUE (provider, model)
);
COMMENT ON TABLE daybook.usage_name IS 'The providers and models that usage was counted for. Rows are added by drains, and never changed.';
INSERT INTO daybook.usage_name (provider, model)
SELECT provider, model FROM daybook.task_usage_fact
UNION SELECT provider, model FROM daybook.task_usage_daily
UNION SELECT provider, model FROM daybook.workspace_usage_daily_by_agent
ORDER BY 1, 2;
ANALYZE daybook.usage_name;

CREATE TABLE daybook.dimension (
    id           integer NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace_id uuid,
    runtime_id   uuid,
    agent_id     uuid NOT NULL,
    project_id   uuid,
    UNIQUE NULLS NOT DISTINCT (agent_id, runtime_id, project_id, workspace_id)
);
CREATE INDEX dimension_runtime_idx ON daybook.dimension (runtime_id);
CREATE INDEX dimension_workspace_idx ON daybook.dimension (workspace_id);
COMMENT ON TABLE daybook.dimension IS 'What the facts of a task have in common. Rows are added by drains, and never changed.';
INSERT INTO daybook.dimension (workspace_id, runtime_id, agent_id, project_id)
SELECT workspace_id, runtime_id, agent_id, project_id FROM daybook.task_fact
UNION SELECT workspace_id, runtime_id, agent_id, project_id FROM daybook.task_usage_fact
ORDER BY 1, 2, 3, 4;
ANALYZE daybook.dimension;

-- Columns stand in the order that leaves no gaps.
CREATE TABLE daybook.ledger_task (
    task_id      uuid NOT NULL,
    started_at   timestamptz NOT NULL,
    completed_at timestamptz,
    dimension_id integer NOT NULL,
    failed       boolean NOT NULL
) WITH (fillfactor = 95); -- Most are changed once, when the task ends.
COMMENT ON TABLE daybook.ledger_task IS 'What the rollups count now for each task that was started. completed_at is set for completed and failed tasks only.';
-- A comparison of null ids by = would find nothing, and by IS NOT DISTINCT FROM would be slow.
INSERT INTO daybook.ledger_task (task_id, started_at, completed_at, dimension_id, failed)
SELECT f.task_id, f.started_at, f.completed_at, d.id, f.failed
FROM daybook.task_fact f
JOIN daybook.dimension d ON d.agent_id = f.agent_id AND coalesce(d.runtime_id, d.agent_id) = coalesce(f.runtime_id, f.agent_id)
    AND coalesce(d.project_id, d.agent_id) = coalesce(f.project_id, f.agent_id)
    AND coalesce(d.workspace_id, d.agent_id) = coalesce(f.workspace_id, f.agent_id);
ALTER TABLE daybook.ledger_task ADD PRIMARY KEY (task_id);
CREATE INDEX ledger_task_dimension_idx ON daybook.ledger_task (dimension_id);

CREATE TABLE daybook.ledger_usage (
    task_id            uuid NOT NULL,
    created_at         timestamptz NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    dimension_id       integer NOT NULL,
    name_id            integer NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90); -- Counts that are overwritten stay on their page (HOT), so no index changes.
COMMENT ON TABLE daybook.ledger_usage IS 'What the rollups count now for each usage row.';
COMMENT ON COLUMN daybook.ledger_usage.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.ledger_usage.writes IS 'How often the row was written in this generation.';
INSERT INTO daybook.ledger_usage (task_id, created_at, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    dimension_id, name_id, generation, writes)
SELECT f.task_id, f.created_at, f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, d.id, n.id, f.generation, f.writes
FROM daybook.task_usage_fact f
JOIN daybook.usage_name n ON n.provider = f.provider AND n.model = f.model
JOIN daybook.dimension d ON d.agent_id = f.agent_id AND coalesce(d.runtime_id, d.agent_id) = coalesce(f.runtime_id, f.agent_id)
    AND coalesce(d.project_id, d.agent_id) = coalesce(f.project_id, f.agent_id)
    AND coalesce(d.workspace_id, d.agent_id) = coalesce(f.workspace_id, f.agent_id);
ALTER TABLE daybook.ledger_usage ADD PRIMARY KEY (task_id, name_id, generation);
-- Days and not instants: those that are equal are kept as one.
CREATE INDEX ledger_usage_dimension_idx ON daybook.ledger_usage (dimension_id, ((created_at AT TIME ZONE 'UTC')::date));

-- Some room on each page lets a bucket grow in place (HOT). More makes itself: what finds none moves to another page and leaves its own.
CREATE TABLE daybook.bucket_usage_daily (
    runtime_id         uuid NOT NULL,
    bucket_date        date NOT NULL,
    name_id            integer NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90);
INSERT INTO daybook.bucket_usage_daily
SELECT b.runtime_id, b.bucket_date, n.id, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count,
    b.generation, b.writes
FROM daybook.task_usage_daily b JOIN daybook.usage_name n ON n.provider = b.provider AND n.model = b.model
ORDER BY 1, 2, 3;
ALTER TABLE daybook.bucket_usage_daily ADD PRIMARY KEY (runtime_id, bucket_date, name_id, generation);

CREATE TABLE daybook.bucket_usage_by_agent (
    runtime_id         uuid NOT NULL,
    agent_id           uuid NOT NULL,
    bucket_date        date NOT NULL,
    name_id            integer NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    task_count         bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90);
COMMENT ON COLUMN daybook.bucket_usage_by_agent.task_count IS 'Tasks whose latest usage of this agent and model is in this bucket: exact when summed over any window that ends now.';
INSERT INTO daybook.bucket_usage_by_agent
SELECT b.runtime_id, b.agent_id, b.bucket_date, n.id, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count,
    b.task_count, b.generation, b.writes
FROM daybook.task_usage_daily_by_agent b JOIN daybook.usage_name n ON n.provider = b.provider AND n.model = b.model
ORDER BY 1, 3, 2, 4;
ALTER TABLE daybook.bucket_usage_by_agent ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, name_id, generation);

CREATE TABLE daybook.bucket_usage_by_hour (
    runtime_id         uuid NOT NULL,
    bucket_date        date NOT NULL,
    name_id            integer NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    task_count         bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    hour               smallint NOT NULL,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90);
COMMENT ON COLUMN daybook.bucket_usage_by_hour.task_count IS 'Tasks whose latest usage of this hour and model is in this bucket: exact when summed over any window that ends now.';
INSERT INTO daybook.bucket_usage_by_hour
SELECT b.runtime_id, b.bucket_date, n.id, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count,
    b.task_count, b.generation, b.hour, b.writes
FROM daybook.task_usage_daily_by_hour b JOIN daybook.usage_name n ON n.provider = b.provider AND n.model = b.model
ORDER BY b.runtime_id, b.bucket_date, b.hour, n.id;
ALTER TABLE daybook.bucket_usage_by_hour ADD PRIMARY KEY (runtime_id, bucket_date, hour, name_id, generation);

CREATE TABLE daybook.bucket_workspace_usage (
    workspace_id       uuid NOT NULL,
    project_id         uuid,
    agent_id           uuid NOT NULL,
    bucket_date        date NOT NULL,
    name_id            integer NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    day_task_count     bigint NOT NULL,
    window_task_count  bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90);
COMMENT ON COLUMN daybook.bucket_workspace_usage.day_task_count IS 'Tasks of this day and model, each in one bucket: exact when summed over one day.';
COMMENT ON COLUMN daybook.bucket_workspace_usage.window_task_count IS 'Tasks whose latest usage of this model is in this bucket: exact when summed over any window that ends now.';
INSERT INTO daybook.bucket_workspace_usage
SELECT b.workspace_id, b.project_id, b.agent_id, b.bucket_date, n.id, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens,
    b.event_count, b.day_task_count, b.window_task_count, b.generation, b.writes
FROM daybook.workspace_usage_daily b JOIN daybook.usage_name n ON n.provider = b.provider AND n.model = b.model
ORDER BY 1, 4, 2, 3, 5;
CREATE UNIQUE INDEX bucket_workspace_usage_key ON daybook.bucket_workspace_usage
    (workspace_id, bucket_date, project_id, agent_id, name_id, generation) NULLS NOT DISTINCT;

CREATE TABLE daybook.bucket_workspace_usage_by_agent (
    workspace_id       uuid NOT NULL,
    agent_id           uuid NOT NULL,
    bucket_date        date NOT NULL,
    name_id            integer NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    day_task_count     bigint NOT NULL,
    window_task_count  bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 90);
COMMENT ON TABLE daybook.bucket_workspace_usage_by_agent IS 'bucket_workspace_usage, summed over projects.';
COMMENT ON COLUMN daybook.bucket_workspace_usage_by_agent.day_task_count IS 'Tasks of this day and model, each in one bucket: exact when summed over one day.';
COMMENT ON COLUMN daybook.bucket_workspace_usage_by_agent.window_task_count IS 'Tasks whose latest usage of this model is in this bucket: exact when summed over any window that ends now.';
INSERT INTO daybook.bucket_workspace_usage_by_agent
SELECT b.workspace_id, b.agent_id, b.bucket_date, n.id, b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens,
    b.event_count, b.day_task_count, b.window_task_count, b.generation, b.writes
FROM daybook.workspace_usage_daily_by_agent b JOIN daybook.usage_name n ON n.provider = b.provider AND n.model = b.model
ORDER BY 1, 3, 2, 4;
ALTER TABLE daybook.bucket_workspace_usage_by_agent ADD PRIMARY KEY (workspace_id, bucket_date, agent_id, name_id, generation);

-- While a transaction of the host was open for minutes, most of what a drain took longer was to pass the versions of one generation: see 0012.
CREATE OR REPLACE FUNCTION daybook.writes_per_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 16::smallint';

-- From here on readers wait too: the api until this is committed, which is at once, and this for readers. In the order in which the api reads, or the two
-- would wait for each other; and for no longer than 100 ms at a time, so that questions do not queue up behind a verification.
-- +goose StatementBegin
DO $$
BEGIN
    FOR attempt IN 1..3000 LOOP
        BEGIN
            SET LOCAL lock_timeout = '100ms';
            LOCK TABLE daybook.task_usage_daily, daybook.task_usage_daily_by_agent, daybook.task_usage_daily_by_hour,
                daybook.workspace_usage_daily_by_agent, daybook.workspace_usage_daily, daybook.task_usage_fact, daybook.task_fact
                IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION
            WHEN lock_not_available OR deadlock_detected THEN
                IF attempt = 3000 THEN
                    RAISE;
                END IF;
                PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;
-- +goose StatementEnd

DROP VIEW daybook.task_contribution;
DROP VIEW daybook.workspace_contribution;
DROP VIEW daybook.usage_contribution;
DROP TABLE daybook.task_fact;
DROP TABLE daybook.task_usage_fact;
DROP TABLE daybook.task_usage_daily;
DROP FUNCTION IF EXISTS daybook.single_task_usage_daily();
DROP TABLE daybook.task_usage_daily_by_agent;
DROP FUNCTION IF EXISTS daybook.single_task_usage_daily_by_agent();
DROP TABLE daybook.task_usage_daily_by_hour;
DROP FUNCTION IF EXISTS daybook.single_task_usage_daily_by_hour();
DROP TABLE daybook.workspace_usage_daily;
DROP FUNCTION IF EXISTS daybook.single_workspace_usage_daily();
DROP TABLE daybook.workspace_usage_daily_by_agent;
DROP FUNCTION daybook.single_workspace_usage_daily_by_agent();

-- Second rows of buckets are kept out as before: see 0012.
-- +goose StatementBegin
DO $do$
DECLARE
    rollup record;
    same   text;
BEGIN
    FOR rollup IN
        SELECT * FROM (VALUES
            ('bucket_usage_daily', ARRAY['runtime_id', 'bucket_date', 'name_id']),
            ('bucket_usage_by_agent', ARRAY['runtime_id', 'bucket_date', 'agent_id', 'name_id']),
            ('bucket_usage_by_hour', ARRAY['runtime_id', 'bucket_date', 'hour', 'name_id']),
            ('bucket_workspace_usage', ARRAY['workspace_id', 'bucket_date', 'project_id', 'agent_id', 'name_id']),
            ('bucket_workspace_usage_by_agent', ARRAY['workspace_id', 'bucket_date', 'agent_id', 'name_id'])
        ) AS r (name, columns)
    LOOP
        same := (SELECT string_agg(format('b.%1$I = a.%1$I', c), ' AND ') FROM unnest(rollup.columns) AS c WHERE c <> 'project_id')
            || ' AND b.generation <> a.generation';
        same := CASE WHEN 'project_id' = ANY (rollup.columns)
            -- Two conditions, for IS NOT DISTINCT FROM does not use an index.
            THEN format('CASE WHEN a.project_id IS NULL
                    THEN EXISTS (SELECT FROM daybook.%1$I b WHERE b.project_id IS NULL AND %2$s)
                    ELSE EXISTS (SELECT FROM daybook.%1$I b WHERE b.project_id = a.project_id AND %2$s) END', rollup.name, same)
            ELSE format('EXISTS (SELECT FROM daybook.%1$I b WHERE %2$s)', rollup.name, same) END;
        EXECUTE format($f$
            CREATE FUNCTION daybook.%1$I() RETURNS trigger
                LANGUAGE plpgsql
                SET search_path = pg_catalog, pg_temp
                SET enable_seqscan = off
            AS $body$
            BEGIN
                IF EXISTS (SELECT FROM added a WHERE a.generation <> 0 OR %3$s) THEN
                    RAISE serialization_failure USING
                        MESSAGE = 'another transaction has written a bucket of daybook.%2$s',
                        HINT = 'Try again. By hand, insert rows of generation 0, of buckets that have none.';
                END IF;
                RETURN NULL;
            END
            $body$ $f$, 'single_' || rollup.name, rollup.name, same);
        EXECUTE format('REVOKE ALL ON FUNCTION daybook.%I() FROM PUBLIC', 'single_' || rollup.name);
        EXECUTE format($f$
            CREATE TRIGGER single AFTER INSERT ON daybook.%I
                REFERENCING NEW TABLE AS added
                FOR EACH STATEMENT
                WHEN (current_setting('daybook.sole_writer', true) IS DISTINCT FROM 'on')
                EXECUTE FUNCTION daybook.%I()$f$, rollup.name, 'single_' || rollup.name);
    END LOOP;
END
$do$;
-- +goose StatementEnd

-- What facts contribute, as before. A task counts once for a model, in the bucket of its latest usage of it. A name whose model no other
-- provider has is that: a task has one row of it. So only the rows of the other names need to be sorted.

-- model_name tells which names share their model.
CREATE VIEW daybook.model_name AS
SELECT n.id, n.provider, n.model,
    EXISTS (SELECT FROM daybook.usage_name x WHERE x.model = n.model AND x.id <> n.id) AS is_shared
FROM daybook.usage_name n;

-- local_at is the instant in the runtime's zone. To convert it is dear, so whoever needs its date and its hour takes them from here.
CREATE VIEW daybook.usage_contribution AS
SELECT
    f.task_id, d.runtime_id, d.agent_id, f.name_id,
    f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens,
    f.created_at AT TIME ZONE r.timezone AS local_at,
    true AS counts_in_agent, true AS counts_in_hour
FROM daybook.ledger_usage f
JOIN daybook.dimension d ON d.id = f.dimension_id
JOIN daybook.model_name n ON n.id = f.name_id
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = d.runtime_id
WHERE NOT n.is_shared
UNION ALL
SELECT
    task_id, runtime_id, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    local_at,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C"
        ORDER BY local_at::date DESC, created_at DESC, provider COLLATE "C") = 1,
    row_number() OVER (PARTITION BY task_id, runtime_id, model COLLATE "C", date_part('hour', local_at)
        ORDER BY local_at::date DESC, created_at DESC, provider COLLATE "C") = 1
FROM (
    SELECT
        f.task_id, d.runtime_id, d.agent_id, f.name_id, n.provider, n.model,
        f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
        f.created_at AT TIME ZONE r.timezone AS local_at
    FROM daybook.ledger_usage f
    JOIN daybook.dimension d ON d.id = f.dimension_id
    JOIN daybook.model_name n ON n.id = f.name_id
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = d.runtime_id
    WHERE n.is_shared
) dated;

CREATE VIEW daybook.workspace_contribution AS
SELECT
    f.task_id, d.workspace_id, d.project_id, d.agent_id, f.name_id,
    f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens,
    (f.created_at AT TIME ZONE 'UTC')::date AS utc_date,
    true AS counts_in_day, true AS counts_in_window,
    (f.created_at AT TIME ZONE 'UTC')::date >= (SELECT daybook.closed_before()) AS is_open
FROM daybook.ledger_usage f
JOIN daybook.dimension d ON d.id = f.dimension_id
JOIN daybook.model_name n ON n.id = f.name_id
WHERE NOT n.is_shared
UNION ALL
SELECT
    task_id, workspace_id, project_id, agent_id, name_id,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens,
    utc_date,
    row_number() OVER (PARTITION BY task_id, workspace_id, model COLLATE "C", utc_date
        ORDER BY created_at DESC, provider COLLATE "C") = 1,
    row_number() OVER (PARTITION BY task_id, workspace_id, model COLLATE "C"
        ORDER BY created_at DESC, provider COLLATE "C") = 1,
    utc_date >= (SELECT daybook.closed_before())
FROM (
    SELECT
        f.task_id, d.workspace_id, d.project_id, d.agent_id, f.name_id, n.provider, n.model,
        f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
        (f.created_at AT TIME ZONE 'UTC')::date AS utc_date
    FROM daybook.ledger_usage f
    JOIN daybook.dimension d ON d.id = f.dimension_id
    JOIN daybook.model_name n ON n.id = f.name_id
    WHERE n.is_shared
) dated;

CREATE VIEW daybook.task_contribution AS
SELECT
    f.task_id, d.runtime_id,
    date_part('hour', f.started_at AT TIME ZONE r.timezone)::smallint AS local_hour
FROM daybook.ledger_task f
JOIN daybook.dimension d ON d.id = f.dimension_id
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = d.runtime_id;

-- named is a bucket as JSON, with the provider and the model in the place of their number.
CREATE FUNCTION daybook.named(bucket jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT (bucket - 'name_id') || jsonb_build_object('provider', n.provider, 'model', n.model)
        FROM daybook.usage_name n WHERE n.id = (bucket ->> 'name_id')::integer), bucket)
$$;

-- insert_by_name lets rows be inserted into the views below, by hand.
-- +goose StatementBegin
CREATE FUNCTION daybook.insert_by_name() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name      integer;
    dimension integer;
BEGIN
    IF TG_TABLE_NAME <> 'task_fact' THEN
        INSERT INTO daybook.usage_name (provider, model) VALUES (NEW.provider, NEW.model) ON CONFLICT DO NOTHING;
        name := (SELECT n.id FROM daybook.usage_name n WHERE n.provider = NEW.provider AND n.model = NEW.model);
    END IF;
    IF TG_TABLE_NAME IN ('task_fact', 'task_usage_fact') THEN
        INSERT INTO daybook.dimension (workspace_id, runtime_id, agent_id, project_id)
        VALUES (NEW.workspace_id, NEW.runtime_id, NEW.agent_id, NEW.project_id) ON CONFLICT DO NOTHING;
        dimension := (
            SELECT d.id FROM daybook.dimension d
            WHERE d.agent_id = NEW.agent_id AND d.runtime_id IS NOT DISTINCT FROM NEW.runtime_id
              AND d.project_id IS NOT DISTINCT FROM NEW.project_id AND d.workspace_id IS NOT DISTINCT FROM NEW.workspace_id);
    END IF;
    CASE TG_TABLE_NAME
    WHEN 'task_fact' THEN
        INSERT INTO daybook.ledger_task (task_id, dimension_id, started_at, completed_at, failed)
        VALUES (NEW.task_id, dimension, NEW.started_at, NEW.completed_at, NEW.failed);
    WHEN 'task_usage_fact' THEN
        INSERT INTO daybook.ledger_usage (task_id, name_id, dimension_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at, generation)
        VALUES (NEW.task_id, name, dimension,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.created_at, coalesce(NEW.generation, 0));
    WHEN 'task_usage_daily' THEN
        INSERT INTO daybook.bucket_usage_daily (runtime_id, bucket_date, name_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, generation)
        VALUES (NEW.runtime_id, NEW.bucket_date, name,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.event_count, coalesce(NEW.generation, 0));
    WHEN 'task_usage_daily_by_agent' THEN
        INSERT INTO daybook.bucket_usage_by_agent (runtime_id, bucket_date, agent_id, name_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count, generation)
        VALUES (NEW.runtime_id, NEW.bucket_date, NEW.agent_id, name,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.event_count, NEW.task_count, coalesce(NEW.generation, 0));
    WHEN 'task_usage_daily_by_hour' THEN
        INSERT INTO daybook.bucket_usage_by_hour (runtime_id, bucket_date, hour, name_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count, generation)
        VALUES (NEW.runtime_id, NEW.bucket_date, NEW.hour, name,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.event_count, NEW.task_count, coalesce(NEW.generation, 0));
    WHEN 'workspace_usage_daily' THEN
        INSERT INTO daybook.bucket_workspace_usage (workspace_id, bucket_date, project_id, agent_id, name_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count, generation)
        VALUES (NEW.workspace_id, NEW.bucket_date, NEW.project_id, NEW.agent_id, name,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.event_count, NEW.day_task_count, NEW.window_task_count, coalesce(NEW.generation, 0));
    WHEN 'workspace_usage_daily_by_agent' THEN
        INSERT INTO daybook.bucket_workspace_usage_by_agent (workspace_id, bucket_date, agent_id, name_id,
            input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count, generation)
        VALUES (NEW.workspace_id, NEW.bucket_date, NEW.agent_id, name,
            NEW.input_tokens, NEW.output_tokens, NEW.cache_read_tokens, NEW.cache_write_tokens, NEW.event_count, NEW.day_task_count, NEW.window_task_count, coalesce(NEW.generation, 0));
    END CASE;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION daybook.insert_by_name() FROM PUBLIC;

-- What the tables showed that had these names. Counts can be changed through them, and rows inserted and deleted.
CREATE VIEW daybook.task_fact AS
SELECT f.task_id,
    (SELECT d.workspace_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS workspace_id,
    (SELECT d.runtime_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS runtime_id,
    (SELECT d.agent_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS agent_id,
    (SELECT d.project_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS project_id,
    f.started_at, f.completed_at, f.failed
FROM daybook.ledger_task f;
COMMENT ON VIEW daybook.task_fact IS 'What the rollups count now for each task that was started. completed_at is set for completed and failed tasks only.';

CREATE VIEW daybook.task_usage_fact AS
SELECT f.task_id,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = f.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = f.name_id) AS model,
    (SELECT d.workspace_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS workspace_id,
    (SELECT d.runtime_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS runtime_id,
    (SELECT d.agent_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS agent_id,
    (SELECT d.project_id FROM daybook.dimension d WHERE d.id = f.dimension_id) AS project_id,
    f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at, f.generation, f.writes
FROM daybook.ledger_usage f;
COMMENT ON VIEW daybook.task_usage_fact IS 'What the rollups count now for each usage row.';

CREATE VIEW daybook.task_usage_daily AS
SELECT b.runtime_id, b.bucket_date,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = b.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = b.name_id) AS model,
    b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.generation, b.writes
FROM daybook.bucket_usage_daily b;

CREATE VIEW daybook.task_usage_daily_by_agent AS
SELECT b.runtime_id, b.bucket_date, b.agent_id,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = b.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = b.name_id) AS model,
    b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.task_count, b.generation, b.writes
FROM daybook.bucket_usage_by_agent b;

CREATE VIEW daybook.task_usage_daily_by_hour AS
SELECT b.runtime_id, b.bucket_date, b.hour,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = b.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = b.name_id) AS model,
    b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.task_count, b.generation, b.writes
FROM daybook.bucket_usage_by_hour b;

CREATE VIEW daybook.workspace_usage_daily AS
SELECT b.workspace_id, b.bucket_date, b.project_id, b.agent_id,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = b.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = b.name_id) AS model,
    b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.day_task_count, b.window_task_count,
    b.generation, b.writes
FROM daybook.bucket_workspace_usage b;

CREATE VIEW daybook.workspace_usage_daily_by_agent AS
SELECT b.workspace_id, b.bucket_date, b.agent_id,
    (SELECT n.provider FROM daybook.usage_name n WHERE n.id = b.name_id) AS provider,
    (SELECT n.model FROM daybook.usage_name n WHERE n.id = b.name_id) AS model,
    b.input_tokens, b.output_tokens, b.cache_read_tokens, b.cache_write_tokens, b.event_count, b.day_task_count, b.window_task_count,
    b.generation, b.writes
FROM daybook.bucket_workspace_usage_by_agent b;
COMMENT ON VIEW daybook.workspace_usage_daily_by_agent IS 'workspace_usage_daily, summed over projects.';

CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.task_fact FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.task_usage_fact FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.task_usage_daily FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.task_usage_daily_by_agent FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.task_usage_daily_by_hour FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.workspace_usage_daily FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();
CREATE TRIGGER by_name INSTEAD OF INSERT ON daybook.workspace_usage_daily_by_agent FOR EACH ROW EXECUTE FUNCTION daybook.insert_by_name();

-- +goose Down
-- What has a number that stands for nothing, after somebody deleted rows by hand, is left out.
CREATE OR REPLACE FUNCTION daybook.writes_per_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 64::smallint';
LOCK TABLE daybook.ledger_task, daybook.ledger_usage, daybook.bucket_usage_daily, daybook.bucket_usage_by_agent, daybook.bucket_usage_by_hour,
    daybook.bucket_workspace_usage, daybook.bucket_workspace_usage_by_agent IN SHARE ROW EXCLUSIVE MODE;
ALTER VIEW daybook.task_fact RENAME TO wide_task_fact;
ALTER VIEW daybook.task_usage_fact RENAME TO wide_task_usage_fact;
ALTER VIEW daybook.task_usage_daily RENAME TO wide_task_usage_daily;
ALTER VIEW daybook.task_usage_daily_by_agent RENAME TO wide_task_usage_daily_by_agent;
ALTER VIEW daybook.task_usage_daily_by_hour RENAME TO wide_task_usage_daily_by_hour;
ALTER VIEW daybook.workspace_usage_daily RENAME TO wide_workspace_usage_daily;
ALTER VIEW daybook.workspace_usage_daily_by_agent RENAME TO wide_workspace_usage_daily_by_agent;

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
INSERT INTO daybook.task_fact SELECT * FROM daybook.wide_task_fact WHERE agent_id IS NOT NULL;
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
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, provider, model, generation)
) WITH (fillfactor = 90);
INSERT INTO daybook.task_usage_fact SELECT * FROM daybook.wide_task_usage_fact WHERE agent_id IS NOT NULL AND provider IS NOT NULL;
CREATE INDEX task_usage_fact_runtime_idx ON daybook.task_usage_fact (runtime_id, created_at);
COMMENT ON TABLE daybook.task_usage_fact IS 'What the rollups count now for each usage row.';
COMMENT ON COLUMN daybook.task_usage_fact.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_usage_fact.writes IS 'How often the row was written in this generation.';

CREATE TABLE daybook.task_usage_daily (
    runtime_id         uuid NOT NULL,
    bucket_date        date NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (runtime_id, bucket_date, provider, model, generation)
) WITH (fillfactor = 80);
INSERT INTO daybook.task_usage_daily SELECT * FROM daybook.wide_task_usage_daily WHERE provider IS NOT NULL;

CREATE TABLE daybook.task_usage_daily_by_agent (
    runtime_id         uuid NOT NULL,
    bucket_date        date NOT NULL,
    agent_id           uuid NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    task_count         bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model, generation)
) WITH (fillfactor = 80);
INSERT INTO daybook.task_usage_daily_by_agent SELECT * FROM daybook.wide_task_usage_daily_by_agent WHERE provider IS NOT NULL;
COMMENT ON COLUMN daybook.task_usage_daily_by_agent.task_count IS 'Tasks whose latest usage of this agent and model is in this bucket: exact when summed over any window that ends now.';

CREATE TABLE daybook.task_usage_daily_by_hour (
    runtime_id         uuid NOT NULL,
    bucket_date        date NOT NULL,
    hour               smallint NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    task_count         bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (runtime_id, bucket_date, hour, provider, model, generation)
) WITH (fillfactor = 80);
INSERT INTO daybook.task_usage_daily_by_hour SELECT * FROM daybook.wide_task_usage_daily_by_hour WHERE provider IS NOT NULL;
COMMENT ON COLUMN daybook.task_usage_daily_by_hour.task_count IS 'Tasks whose latest usage of this hour and model is in this bucket: exact when summed over any window that ends now.';

CREATE TABLE daybook.workspace_usage_daily (
    workspace_id       uuid NOT NULL,
    bucket_date        date NOT NULL,
    project_id         uuid,
    agent_id           uuid NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    day_task_count     bigint NOT NULL,
    window_task_count  bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
INSERT INTO daybook.workspace_usage_daily SELECT * FROM daybook.wide_workspace_usage_daily WHERE provider IS NOT NULL;
CREATE UNIQUE INDEX workspace_usage_daily_key ON daybook.workspace_usage_daily
    (workspace_id, bucket_date, project_id, agent_id, provider, model, generation) NULLS NOT DISTINCT;
COMMENT ON COLUMN daybook.workspace_usage_daily.day_task_count IS 'Tasks of this day and model, each in one bucket: exact when summed over one day.';
COMMENT ON COLUMN daybook.workspace_usage_daily.window_task_count IS 'Tasks whose latest usage of this model is in this bucket: exact when summed over any window that ends now.';

CREATE TABLE daybook.workspace_usage_daily_by_agent (
    workspace_id       uuid NOT NULL,
    bucket_date        date NOT NULL,
    agent_id           uuid NOT NULL,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    cache_read_tokens  bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    event_count        bigint NOT NULL,
    day_task_count     bigint NOT NULL,
    window_task_count  bigint NOT NULL,
    generation         integer NOT NULL DEFAULT 0,
    writes             smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace_id, bucket_date, agent_id, provider, model, generation)
) WITH (fillfactor = 80);
INSERT INTO daybook.workspace_usage_daily_by_agent SELECT * FROM daybook.wide_workspace_usage_daily_by_agent WHERE provider IS NOT NULL;
COMMENT ON TABLE daybook.workspace_usage_daily_by_agent IS 'workspace_usage_daily, summed over projects.';

DROP VIEW daybook.wide_task_fact, daybook.wide_task_usage_fact, daybook.wide_task_usage_daily, daybook.wide_task_usage_daily_by_agent,
    daybook.wide_task_usage_daily_by_hour, daybook.wide_workspace_usage_daily, daybook.wide_workspace_usage_daily_by_agent,
    daybook.usage_contribution, daybook.workspace_contribution, daybook.task_contribution, daybook.model_name;
DROP TABLE daybook.ledger_task, daybook.ledger_usage, daybook.bucket_usage_daily, daybook.bucket_usage_by_agent, daybook.bucket_usage_by_hour,
    daybook.bucket_workspace_usage, daybook.bucket_workspace_usage_by_agent, daybook.usage_name, daybook.dimension;
DROP FUNCTION daybook.insert_by_name(), daybook.named(jsonb), daybook.single_bucket_usage_daily(), daybook.single_bucket_usage_by_agent(), daybook.single_bucket_usage_by_hour(),
    daybook.single_bucket_workspace_usage(), daybook.single_bucket_workspace_usage_by_agent();

CREATE VIEW daybook.usage_contribution AS
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
        f.task_id, f.provider, f.model, f.workspace_id, f.runtime_id, f.agent_id, f.project_id,
        f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
        (f.created_at AT TIME ZONE r.timezone)::date AS local_date,
        date_part('hour', f.created_at AT TIME ZONE r.timezone)::smallint AS local_hour
    FROM daybook.task_usage_fact f
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = f.runtime_id
) dated;

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
    SELECT
        f.task_id, f.provider, f.model, f.workspace_id, f.runtime_id, f.agent_id, f.project_id,
        f.input_tokens, f.output_tokens, f.cache_read_tokens, f.cache_write_tokens, f.created_at,
        (f.created_at AT TIME ZONE 'UTC')::date AS utc_date
    FROM daybook.task_usage_fact f
) dated;

CREATE VIEW daybook.task_contribution AS
SELECT
    f.task_id, f.runtime_id,
    date_part('hour', f.started_at AT TIME ZONE r.timezone)::smallint AS local_hour
FROM daybook.task_fact f
LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = f.runtime_id;

-- +goose StatementBegin
DO $do$
DECLARE
    rollup record;
    same   text;
BEGIN
    FOR rollup IN
        SELECT * FROM (VALUES
            ('task_usage_daily', ARRAY['runtime_id', 'bucket_date', 'provider', 'model']),
            ('task_usage_daily_by_agent', ARRAY['runtime_id', 'bucket_date', 'agent_id', 'provider', 'model']),
            ('task_usage_daily_by_hour', ARRAY['runtime_id', 'bucket_date', 'hour', 'provider', 'model']),
            ('workspace_usage_daily', ARRAY['workspace_id', 'bucket_date', 'project_id', 'agent_id', 'provider', 'model']),
            ('workspace_usage_daily_by_agent', ARRAY['workspace_id', 'bucket_date', 'agent_id', 'provider', 'model'])
        ) AS r (name, columns)
    LOOP
        same := (SELECT string_agg(format('b.%1$I = a.%1$I', c), ' AND ') FROM unnest(rollup.columns) AS c WHERE c <> 'project_id')
            || ' AND b.generation <> a.generation';
        same := CASE WHEN 'project_id' = ANY (rollup.columns)
            THEN format('CASE WHEN a.project_id IS NULL
                    THEN EXISTS (SELECT FROM daybook.%1$I b WHERE b.project_id IS NULL AND %2$s)
                    ELSE EXISTS (SELECT FROM daybook.%1$I b WHERE b.project_id = a.project_id AND %2$s) END', rollup.name, same)
            ELSE format('EXISTS (SELECT FROM daybook.%1$I b WHERE %2$s)', rollup.name, same) END;
        EXECUTE format($f$
            CREATE FUNCTION daybook.%1$I() RETURNS trigger
                LANGUAGE plpgsql
                SET search_path = pg_catalog, pg_temp
                SET enable_seqscan = off
            AS $body$
            BEGIN
                IF EXISTS (SELECT FROM added a WHERE a.generation <> 0 OR %3$s) THEN
                    RAISE serialization_failure USING
                        MESSAGE = 'another transaction has written a bucket of daybook.%2$s',
                        HINT = 'Try again. By hand, insert rows of generation 0, of buckets that have none.';
                END IF;
                RETURN NULL;
            END
            $body$ $f$, 'single_' || rollup.name, rollup.name, same);
        EXECUTE format('REVOKE ALL ON FUNCTION daybook.%I() FROM PUBLIC', 'single_' || rollup.name);
        EXECUTE format($f$
            CREATE TRIGGER single AFTER INSERT ON daybook.%I
                REFERENCING NEW TABLE AS added
                FOR EACH STATEMENT
                WHEN (current_setting('daybook.sole_writer', true) IS DISTINCT FROM 'on')
                EXECUTE FUNCTION daybook.%I()$f$, rollup.name, 'single_' || rollup.name);
    END LOOP;
END
$do$;
-- +goose StatementEnd

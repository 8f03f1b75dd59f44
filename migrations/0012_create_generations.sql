-- The generation of a bucket.
--
-- A bucket of today is written by nearly every drain. While a transaction is open somewhere, Postgres may not remove the versions that
-- these writes leave, and to find a row by its key is to pass all of them. So the key ends in a generation, which rises after
-- some writes: the present row has the highest, and a backward scan of the index meets that first, behind the versions
-- of one generation at most. There is one row of each bucket still.

-- +goose Up

CREATE FUNCTION daybook.writes_of_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 64::smallint';
COMMENT ON FUNCTION daybook.writes_of_generation() IS 'After how many writes of a bucket its generation rises. Each rise is a new entry in the index.';

ALTER TABLE daybook.task_usage_daily ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.task_usage_daily.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_usage_daily.writes IS 'How often the row was written in this generation.';
ALTER TABLE daybook.task_usage_daily DROP CONSTRAINT task_usage_daily_pkey,
    ADD PRIMARY KEY (runtime_id, bucket_date, provider, model, generation);

ALTER TABLE daybook.task_usage_daily_by_agent ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.task_usage_daily_by_agent.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_usage_daily_by_agent.writes IS 'How often the row was written in this generation.';
ALTER TABLE daybook.task_usage_daily_by_agent DROP CONSTRAINT task_usage_daily_by_agent_pkey,
    ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model, generation);

ALTER TABLE daybook.task_usage_daily_by_hour ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.task_usage_daily_by_hour.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_usage_daily_by_hour.writes IS 'How often the row was written in this generation.';
ALTER TABLE daybook.task_usage_daily_by_hour DROP CONSTRAINT task_usage_daily_by_hour_pkey,
    ADD PRIMARY KEY (runtime_id, bucket_date, hour, provider, model, generation);

ALTER TABLE daybook.task_activity_by_hour ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.task_activity_by_hour.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_activity_by_hour.writes IS 'How often the row was written in this generation.';
ALTER TABLE daybook.task_activity_by_hour DROP CONSTRAINT task_activity_by_hour_pkey,
    ADD PRIMARY KEY (runtime_id, hour, generation);

ALTER TABLE daybook.workspace_usage_daily ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.workspace_usage_daily.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.workspace_usage_daily.writes IS 'How often the row was written in this generation.';
DROP INDEX daybook.workspace_usage_daily_key;
CREATE UNIQUE INDEX workspace_usage_daily_key ON daybook.workspace_usage_daily
    (workspace_id, bucket_date, project_id, agent_id, provider, model, generation) NULLS NOT DISTINCT;

ALTER TABLE daybook.workspace_run_time_daily ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.workspace_run_time_daily.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.workspace_run_time_daily.writes IS 'How often the row was written in this generation.';
DROP INDEX daybook.workspace_run_time_daily_key;
CREATE UNIQUE INDEX workspace_run_time_daily_key ON daybook.workspace_run_time_daily
    (workspace_id, bucket_date, project_id, agent_id, generation) NULLS NOT DISTINCT;

-- As before, on tables of the host only: daybook has triggers of its own now.
CREATE OR REPLACE FUNCTION daybook.host_triggers() RETURNS TABLE (name name, relation regclass)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tgname, tgrelid::regclass
    FROM pg_trigger
    WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled IN ('O', 'A')
      AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'daybook'::regnamespace)
      AND tgrelid NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'daybook'::regnamespace)
$$;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION daybook.detach() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT tgname, tgrelid::regclass AS relation
        FROM pg_trigger
        WHERE NOT tgisinternal AND tgparentid = 0
          AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'daybook'::regnamespace)
          AND tgrelid NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'daybook'::regnamespace)
        ORDER BY tgrelid::regclass::text, tgname
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
    UPDATE daybook.coverage SET attached_at = NULL;
END
$$;
-- +goose StatementEnd

-- The index keeps rows of one generation apart, and a new row begins with generation 0. Two things could make a second row of a bucket. A
-- drain has looked a generation up, and finds the row gone: it would insert one of that generation. Or it has found none, and
-- another drain has inserted one since and raised it: that one is committed, for else the index would have made the drain wait, so these triggers
-- see it. In both cases the drain fails and is tried again. Rebuilds need no trigger: nobody else writes the buckets that they delete
-- and insert. They say so by daybook.sole_writer.
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
            ('task_activity_by_hour', ARRAY['runtime_id', 'hour']),
            ('workspace_usage_daily', ARRAY['workspace_id', 'bucket_date', 'project_id', 'agent_id', 'provider', 'model']),
            ('workspace_run_time_daily', ARRAY['workspace_id', 'bucket_date', 'project_id', 'agent_id'])
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

-- +goose Down
DROP TRIGGER single ON daybook.task_usage_daily;
DROP FUNCTION daybook.single_task_usage_daily();
ALTER TABLE daybook.task_usage_daily DROP CONSTRAINT task_usage_daily_pkey;
ALTER TABLE daybook.task_usage_daily DROP COLUMN generation, DROP COLUMN writes,
    ADD PRIMARY KEY (runtime_id, bucket_date, provider, model);

DROP TRIGGER single ON daybook.task_usage_daily_by_agent;
DROP FUNCTION daybook.single_task_usage_daily_by_agent();
ALTER TABLE daybook.task_usage_daily_by_agent DROP CONSTRAINT task_usage_daily_by_agent_pkey;
ALTER TABLE daybook.task_usage_daily_by_agent DROP COLUMN generation, DROP COLUMN writes,
    ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model);

DROP TRIGGER single ON daybook.task_usage_daily_by_hour;
DROP FUNCTION daybook.single_task_usage_daily_by_hour();
ALTER TABLE daybook.task_usage_daily_by_hour DROP CONSTRAINT task_usage_daily_by_hour_pkey;
ALTER TABLE daybook.task_usage_daily_by_hour DROP COLUMN generation, DROP COLUMN writes,
    ADD PRIMARY KEY (runtime_id, bucket_date, hour, provider, model);

DROP TRIGGER single ON daybook.task_activity_by_hour;
DROP FUNCTION daybook.single_task_activity_by_hour();
ALTER TABLE daybook.task_activity_by_hour DROP CONSTRAINT task_activity_by_hour_pkey;
ALTER TABLE daybook.task_activity_by_hour DROP COLUMN generation, DROP COLUMN writes,
    ADD PRIMARY KEY (runtime_id, hour);

DROP TRIGGER single ON daybook.workspace_usage_daily;
DROP FUNCTION daybook.single_workspace_usage_daily();
DROP INDEX daybook.workspace_usage_daily_key;
ALTER TABLE daybook.workspace_usage_daily DROP COLUMN generation, DROP COLUMN writes;
CREATE UNIQUE INDEX workspace_usage_daily_key ON daybook.workspace_usage_daily
    (workspace_id, bucket_date, project_id, agent_id, provider, model) NULLS NOT DISTINCT;

DROP TRIGGER single ON daybook.workspace_run_time_daily;
DROP FUNCTION daybook.single_workspace_run_time_daily();
DROP INDEX daybook.workspace_run_time_daily_key;
ALTER TABLE daybook.workspace_run_time_daily DROP COLUMN generation, DROP COLUMN writes;
CREATE UNIQUE INDEX workspace_run_time_daily_key ON daybook.workspace_run_time_daily
    (workspace_id, bucket_date, project_id, agent_id) NULLS NOT DISTINCT;

DROP FUNCTION daybook.writes_of_generation();

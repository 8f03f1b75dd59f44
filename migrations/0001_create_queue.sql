-- What host triggers write: the queue of changed tasks, changes that concern many tasks at once, and requests
-- to rebuild a runtime. All three are append-only and have no unique key but their own number, so a host
-- write never waits for a worker.

-- +goose Up
CREATE SCHEMA IF NOT EXISTS daybook;

-- +goose StatementBegin
-- The role that owns the trigger functions. It belongs to the cluster: a migration of another database may make it, or drop
-- it, at the same moment. Once it has a privilege here nobody can drop it.
DO $$
DECLARE
    -- Giving a function to a role takes the right to act as it. From Postgres 16 on membership alone is not enough.
    privilege text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END;
    missing   boolean;
    may_use   boolean := false;
BEGIN
    FOR attempt IN 1..10 LOOP
        BEGIN
            missing := NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'daybook_trigger');
            IF missing THEN
                CREATE ROLE daybook_trigger NOLOGIN;
            END IF;
            IF NOT pg_catalog.pg_has_role(current_user, 'daybook_trigger', privilege) THEN
                EXECUTE format('GRANT daybook_trigger TO %I', current_user);
            END IF;
            may_use := true;
            GRANT USAGE ON SCHEMA daybook TO daybook_trigger;
            EXIT;
        EXCEPTION
            WHEN duplicate_object OR unique_violation OR undefined_object THEN
                IF attempt = 10 THEN
                    RAISE;
                END IF;
            WHEN insufficient_privilege THEN
                IF may_use THEN
                    RAISE;
                END IF;
                RAISE insufficient_privilege USING
                    MESSAGE = CASE WHEN missing THEN format('role daybook_trigger is missing and %s may not create it', current_user)
                        ELSE format('%s is not a member of role daybook_trigger', current_user) END,
                    HINT = format('Have an administrator run: %sGRANT daybook_trigger TO %I;',
                        CASE WHEN missing THEN 'CREATE ROLE daybook_trigger NOLOGIN; ' ELSE '' END, current_user);
        END;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- How many shards the queue has. Every process reads the number from here.
CREATE FUNCTION daybook.shard_count() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 16;

-- uuid_hash is what Postgres's own hash indexes on uuid use.
CREATE FUNCTION daybook.shard_of(task_id uuid) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (pg_catalog.uuid_hash(task_id) & (daybook.shard_count() - 1))::smallint;

GRANT EXECUTE ON FUNCTION daybook.shard_of(uuid), daybook.shard_count() TO daybook_trigger;

CREATE TABLE daybook.task_usage_daily_dirty (
    -- daybook.shard_of(task_id). Whoever inserts computes it: a generated column is planned anew for every host write.
    shard       smallint NOT NULL,
    id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    task_id     uuid NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, id)
) WITH (
    -- Rows live for about a second: clean up by count, not by share, and often.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000
);
COMMENT ON TABLE daybook.task_usage_daily_dirty IS 'Dirty entries: this task changed. Append-only; a drain deletes exactly the entries that it counted.';

CREATE TABLE daybook.dirty_scope (
    id          bigint NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('issue', 'agent', 'all')),
    key         uuid,
    enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE daybook.dirty_scope IS 'Changes that concern all tasks of an issue, of an agent, or all tasks. A worker turns them into dirty entries after they are committed.';

CREATE TABLE daybook.runtime_rebuild (
    runtime_id   uuid NOT NULL,
    revision     bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (runtime_id, revision)
);
COMMENT ON TABLE daybook.runtime_rebuild IS 'Requests to rebuild the zone-dependent buckets of a runtime. Append-only; a rebuild deletes exactly the revisions that it saw before it read the zone.';

GRANT INSERT ON daybook.task_usage_daily_dirty, daybook.dirty_scope, daybook.runtime_rebuild TO daybook_trigger;

-- +goose StatementBegin
-- River's own migrations have made its tables. Some sixteen jobs a second come and go: clean up by count here too.
DO $$
BEGIN
    ALTER TABLE daybook.river_job SET (
        autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 5000
    );
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP TABLE daybook.runtime_rebuild;
DROP TABLE daybook.dirty_scope;
DROP TABLE daybook.task_usage_daily_dirty;
DROP FUNCTION daybook.shard_of(uuid);
DROP FUNCTION daybook.shard_count();
REVOKE USAGE ON SCHEMA daybook FROM daybook_trigger;
-- +goose StatementBegin
-- Other databases of the cluster may still use the role; then it stays. An internal error means that one of them drops it
-- at the same moment.
DO $$
BEGIN
    DROP ROLE daybook_trigger;
EXCEPTION
    WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object OR internal_error THEN
        NULL;
END
$$;
-- +goose StatementEnd

-- What host triggers write: the queue of changed tasks, changes that concern many tasks at once, and requests
-- to rebuild a runtime. All three are append-only and have no unique key but their own number, so a host
-- write never waits for a worker.

-- +goose Up
CREATE SCHEMA IF NOT EXISTS daybook;

-- +goose StatementBegin
-- The role that owns the trigger functions. It belongs to the cluster, so another database may have made it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'daybook_trigger') THEN
        BEGIN
            CREATE ROLE daybook_trigger NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role daybook_trigger is missing and % may not create it', current_user
                    USING HINT = format(
                        'Have an administrator run: CREATE ROLE daybook_trigger NOLOGIN; GRANT daybook_trigger TO %I;',
                        current_user);
        END;
    END IF;
    -- Giving a function to a role takes membership in it.
    IF NOT pg_catalog.pg_has_role(current_user, 'daybook_trigger', 'MEMBER') THEN
        EXECUTE format('GRANT daybook_trigger TO %I', current_user);
    END IF;
END
$$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA daybook TO daybook_trigger;

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
    shard       smallint NOT NULL GENERATED ALWAYS AS (daybook.shard_of(task_id)) STORED,
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

-- +goose Down
DROP TABLE daybook.runtime_rebuild;
DROP TABLE daybook.dirty_scope;
DROP TABLE daybook.task_usage_daily_dirty;
DROP FUNCTION daybook.shard_of(uuid);
DROP FUNCTION daybook.shard_count();
REVOKE USAGE ON SCHEMA daybook FROM daybook_trigger;
-- +goose StatementBegin
-- Other databases of the cluster may still use the role; then it stays.
DO $$
BEGIN
    DROP ROLE daybook_trigger;
EXCEPTION
    WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object THEN
        NULL;
END
$$;
-- +goose StatementEnd

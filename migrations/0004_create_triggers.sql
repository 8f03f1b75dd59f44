-- The trigger functions, and attach and detach, which put them on the host's tables and take them off.
--
-- A trigger that fails is a host write that fails, so they do nothing but append. They run as daybook_trigger, which may
-- append and nothing else; the host's own role needs no grant.

-- +goose Up

-- +goose StatementBegin
-- For one usage row that is inserted or updated. For each row, because a host upserts usage one row at a time: a trigger for
-- the statement would run twice for an upsert, and fill a transition table each time.
CREATE FUNCTION daybook.mark_usage_written() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.task_id IS NOT NULL THEN
        INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (daybook.shard_of(NEW.task_id), NEW.task_id);
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.task_id IS DISTINCT FROM NEW.task_id AND OLD.task_id IS NOT NULL THEN
        INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (daybook.shard_of(OLD.task_id), OLD.task_id);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION daybook.mark_usage_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
    SELECT DISTINCT daybook.shard_of(task_id), task_id FROM old_rows WHERE task_id IS NOT NULL;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For one row of agent_task_queue; the trigger's WHEN has decided that it matters.
CREATE FUNCTION daybook.mark_task_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (daybook.shard_of(NEW.id), NEW.id);
    IF TG_OP = 'UPDATE' AND OLD.id IS DISTINCT FROM NEW.id THEN
        INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (daybook.shard_of(OLD.id), OLD.id);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION daybook.mark_tasks_deleted() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT daybook.shard_of(id), id FROM old_rows;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For a row of issue or agent, named by the trigger's argument. The tasks cannot be named here: one that another
-- transaction is adding right now is not visible yet, and its own entry may be drained before this commits.
CREATE FUNCTION daybook.mark_scope_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.dirty_scope (kind, key) VALUES (TG_ARGV[0], OLD.id);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION daybook.mark_all_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.dirty_scope (kind) VALUES ('all');
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- For a runtime that is new, gone, in another zone, or under another id.
CREATE FUNCTION daybook.request_rebuild() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO daybook.runtime_rebuild (runtime_id) VALUES (NEW.id);
    END IF;
    IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.id IS DISTINCT FROM NEW.id) THEN
        INSERT INTO daybook.runtime_rebuild (runtime_id) VALUES (OLD.id);
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- The owner of a function must be able to create in its schema at the moment that it becomes the owner.
DO $$
DECLARE
    f text;
BEGIN
    GRANT CREATE ON SCHEMA daybook TO daybook_trigger;
    FOREACH f IN ARRAY ARRAY[
        'mark_usage_written', 'mark_usage_deleted', 'mark_task_changed',
        'mark_tasks_deleted', 'mark_scope_changed', 'mark_all_changed', 'request_rebuild'
    ] LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION daybook.%I() FROM PUBLIC', f);
        EXECUTE format('ALTER FUNCTION daybook.%I() OWNER TO daybook_trigger', f);
        -- CREATE TRIGGER asks for EXECUTE; a later attach may be by any member of the schema owner's role.
        EXECUTE format('GRANT EXECUTE ON FUNCTION daybook.%I() TO %I', f, current_user);
    END LOOP;
    REVOKE CREATE ON SCHEMA daybook FROM daybook_trigger;
END
$$;
-- +goose StatementEnd

-- coverage says what of the host is counted: since when the triggers are on, and how far the last backfill got.
CREATE TABLE daybook.coverage (
    one_row              boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    attached_at          timestamptz,
    trigger_count        bigint NOT NULL DEFAULT 0,
    backfill_listed_at   timestamptz,
    backfill_finished_at timestamptz,
    backfill_tasks       bigint NOT NULL DEFAULT 0
);
INSERT INTO daybook.coverage DEFAULT VALUES;

-- host_triggers are our triggers that are on and fire for ordinary sessions. Those that Postgres clones onto partitions come
-- and go with their parents.
CREATE FUNCTION daybook.host_triggers() RETURNS TABLE (name name, relation regclass)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT tgname, tgrelid::regclass
    FROM pg_trigger
    WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled IN ('O', 'A')
      AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'daybook'::regnamespace)
$$;

-- attached tells whether every trigger that attach made is there and on.
CREATE FUNCTION daybook.attached() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT attached_at IS NOT NULL AND trigger_count = (SELECT count(*) FROM daybook.host_triggers())
    FROM daybook.coverage
$$;

-- +goose StatementBegin
CREATE FUNCTION daybook.detach() RETURNS void
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
        ORDER BY tgrelid::regclass::text, tgname
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.relation);
    END LOOP;
    UPDATE daybook.coverage SET attached_at = NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
-- attach puts the triggers on, all of them in one transaction; those that are on already are replaced. SHARE ROW EXCLUSIVE
-- waits for every running write, so that what commits later is seen by the triggers and what committed earlier by a backfill.
-- attached_at moves only if a trigger was missing, for only then could a change have been missed.
CREATE FUNCTION daybook.attach() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    had_all boolean;
BEGIN
    LOCK TABLE public.agent, public.agent_runtime, public.agent_task_queue, public.issue, public.task_usage
        IN SHARE ROW EXCLUSIVE MODE;
    had_all := daybook.attached();

    CREATE OR REPLACE TRIGGER daybook_write AFTER INSERT OR UPDATE ON public.task_usage
        FOR EACH ROW EXECUTE FUNCTION daybook.mark_usage_written();
    CREATE OR REPLACE TRIGGER daybook_delete AFTER DELETE ON public.task_usage
        REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION daybook.mark_usage_deleted();
    CREATE OR REPLACE TRIGGER daybook_truncate AFTER TRUNCATE ON public.task_usage
        FOR EACH STATEMENT EXECUTE FUNCTION daybook.mark_all_changed();

    CREATE OR REPLACE TRIGGER daybook_insert AFTER INSERT ON public.agent_task_queue
        FOR EACH ROW WHEN (NEW.started_at IS NOT NULL) EXECUTE FUNCTION daybook.mark_task_changed();
    CREATE OR REPLACE TRIGGER daybook_update AFTER UPDATE ON public.agent_task_queue
        FOR EACH ROW WHEN (
            OLD.id IS DISTINCT FROM NEW.id
            OR OLD.runtime_id IS DISTINCT FROM NEW.runtime_id
            OR OLD.agent_id IS DISTINCT FROM NEW.agent_id
            OR OLD.issue_id IS DISTINCT FROM NEW.issue_id
            OR OLD.started_at IS DISTINCT FROM NEW.started_at
            OR OLD.completed_at IS DISTINCT FROM NEW.completed_at
            OR (OLD.status IS DISTINCT FROM NEW.status
                AND (OLD.status::text IN ('completed', 'failed') OR NEW.status::text IN ('completed', 'failed'))))
        EXECUTE FUNCTION daybook.mark_task_changed();
    CREATE OR REPLACE TRIGGER daybook_delete AFTER DELETE ON public.agent_task_queue
        REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION daybook.mark_tasks_deleted();
    CREATE OR REPLACE TRIGGER daybook_truncate AFTER TRUNCATE ON public.agent_task_queue
        FOR EACH STATEMENT EXECUTE FUNCTION daybook.mark_all_changed();

    CREATE OR REPLACE TRIGGER daybook_update AFTER UPDATE ON public.issue
        FOR EACH ROW WHEN (OLD.project_id IS DISTINCT FROM NEW.project_id)
        EXECUTE FUNCTION daybook.mark_scope_changed('issue');
    CREATE OR REPLACE TRIGGER daybook_delete AFTER DELETE ON public.issue
        FOR EACH ROW WHEN (OLD.project_id IS NOT NULL) EXECUTE FUNCTION daybook.mark_scope_changed('issue');
    CREATE OR REPLACE TRIGGER daybook_truncate AFTER TRUNCATE ON public.issue
        FOR EACH STATEMENT EXECUTE FUNCTION daybook.mark_all_changed();

    CREATE OR REPLACE TRIGGER daybook_update AFTER UPDATE ON public.agent
        FOR EACH ROW WHEN (OLD.workspace_id IS DISTINCT FROM NEW.workspace_id)
        EXECUTE FUNCTION daybook.mark_scope_changed('agent');

    -- A new runtime may have the id of one that was counted in another zone.
    CREATE OR REPLACE TRIGGER daybook_insert AFTER INSERT ON public.agent_runtime
        FOR EACH ROW EXECUTE FUNCTION daybook.request_rebuild();
    CREATE OR REPLACE TRIGGER daybook_update AFTER UPDATE ON public.agent_runtime
        FOR EACH ROW WHEN (OLD.timezone IS DISTINCT FROM NEW.timezone OR OLD.id IS DISTINCT FROM NEW.id)
        EXECUTE FUNCTION daybook.request_rebuild();
    CREATE OR REPLACE TRIGGER daybook_delete AFTER DELETE ON public.agent_runtime
        FOR EACH ROW EXECUTE FUNCTION daybook.request_rebuild();

    UPDATE daybook.coverage
    SET attached_at = CASE WHEN had_all THEN attached_at ELSE clock_timestamp() END,
        trigger_count = (SELECT count(*) FROM daybook.host_triggers());
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION daybook.attach();
DROP FUNCTION daybook.detach();
DROP FUNCTION daybook.attached();
DROP FUNCTION daybook.host_triggers();
DROP TABLE daybook.coverage;
DROP FUNCTION daybook.request_rebuild();
DROP FUNCTION daybook.mark_all_changed();
DROP FUNCTION daybook.mark_scope_changed();
DROP FUNCTION daybook.mark_tasks_deleted();
DROP FUNCTION daybook.mark_task_changed();
DROP FUNCTION daybook.mark_usage_deleted();
DROP FUNCTION daybook.mark_usage_written();

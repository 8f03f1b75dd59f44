-- The trigger that every write of usage fires evaluates one condition where it had two. Each of them is made ready anew in every transaction of
-- the host.
--
-- CREATE OR REPLACE is for the owner of a function, and the owner must be able to create in its schema at that moment.

-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'daybook_trigger', CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END) THEN
        RAISE insufficient_privilege USING
            MESSAGE = format('%s is not a member of role daybook_trigger, which owns the trigger functions', current_user),
            HINT = format('Have an administrator run: GRANT daybook_trigger TO %I;', current_user);
    END IF;
END
$$;
-- +goose StatementEnd
GRANT CREATE ON SCHEMA daybook TO daybook_trigger;
SET LOCAL ROLE daybook_trigger;
-- +goose StatementBegin
-- For one usage row that is inserted or updated: its task, and the task that lost it. The first statement names the latter where there is no task
-- any more, and nothing where there never was one. With an insert all of OLD is null.
CREATE OR REPLACE FUNCTION daybook.mark_usage_written() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
    SELECT daybook.shard_of(coalesce(NEW.task_id, OLD.task_id)), coalesce(NEW.task_id, OLD.task_id)
    WHERE coalesce(NEW.task_id, OLD.task_id) IS NOT NULL;
    IF OLD.task_id <> NEW.task_id THEN
        INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (daybook.shard_of(OLD.task_id), OLD.task_id);
    END IF;
    RETURN NEW; -- Nobody looks at it. NULL would be one more expression.
END
$$;
-- +goose StatementEnd
RESET ROLE;
REVOKE CREATE ON SCHEMA daybook FROM daybook_trigger;

-- +goose Down
GRANT CREATE ON SCHEMA daybook TO daybook_trigger;
SET LOCAL ROLE daybook_trigger;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION daybook.mark_usage_written() RETURNS trigger
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
RESET ROLE;
REVOKE CREATE ON SCHEMA daybook FROM daybook_trigger;

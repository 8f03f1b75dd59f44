-- A drain of very many runtimes holds one lock for all of them, and rebuilds wait for it. Those of the version before do not: they fail until their
-- workers are replaced, and lose nothing.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION daybook.refuse_old_rebuild() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a worker of an older version may not rebuild runtimes'
        USING HINT = 'Replace workers at once after a migration. The request for the rebuild stays.';
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION daybook.refuse_old_rebuild() FROM PUBLIC;
-- The first setting says that buckets are replaced as rebuilds do it, the second that the program knows drains of many runtimes.
CREATE TRIGGER old_rebuild BEFORE UPDATE ON daybook.runtime_rollup FOR EACH STATEMENT
    WHEN (current_setting('daybook.sole_writer', true) = 'on' AND current_setting('daybook.awaits_drains_of_many', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION daybook.refuse_old_rebuild();

-- +goose Down
DROP TRIGGER old_rebuild ON daybook.runtime_rollup;
DROP FUNCTION daybook.refuse_old_rebuild();

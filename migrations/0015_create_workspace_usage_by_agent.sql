-- The usage of a workspace by agent, of all projects together. Most questions are about all of them, and a workspace with many agents and many
-- projects has a bucket of workspace_usage_daily for each pair, and day, and model.
-- +goose Up
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
) WITH (
    fillfactor = 80
);
COMMENT ON TABLE daybook.workspace_usage_daily_by_agent IS 'workspace_usage_daily, summed over projects.';
COMMENT ON COLUMN daybook.workspace_usage_daily_by_agent.day_task_count IS 'Tasks of this day and model, each in one bucket: exact when summed over one day.';
COMMENT ON COLUMN daybook.workspace_usage_daily_by_agent.window_task_count IS 'Tasks whose latest usage of this model is in this bucket: exact when summed over any window that ends now.';
COMMENT ON COLUMN daybook.workspace_usage_daily_by_agent.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.workspace_usage_daily_by_agent.writes IS 'How often the row was written in this generation.';

-- Drains wait until this is committed. A task has one project, so its counts add up.
LOCK TABLE daybook.workspace_usage_daily IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO daybook.workspace_usage_daily_by_agent
SELECT workspace_id, bucket_date, agent_id, provider, model,
    sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cache_read_tokens)::bigint, sum(cache_write_tokens)::bigint,
    sum(event_count)::bigint, sum(day_task_count)::bigint, sum(window_task_count)::bigint
FROM daybook.workspace_usage_daily
GROUP BY workspace_id, bucket_date, agent_id, provider, model;

-- As for the other rollups: see 0012.
-- +goose StatementBegin
CREATE FUNCTION daybook.single_workspace_usage_daily_by_agent() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
AS $$
BEGIN
    IF EXISTS (SELECT FROM added a WHERE a.generation <> 0 OR EXISTS (
        SELECT FROM daybook.workspace_usage_daily_by_agent b
        WHERE b.workspace_id = a.workspace_id AND b.bucket_date = a.bucket_date AND b.agent_id = a.agent_id AND b.provider = a.provider
          AND b.model = a.model AND b.generation <> a.generation))
    THEN
        RAISE serialization_failure USING
            MESSAGE = 'another transaction has written a bucket of daybook.workspace_usage_daily_by_agent',
            HINT = 'Try again. By hand, insert rows of generation 0, of buckets that have none.';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION daybook.single_workspace_usage_daily_by_agent() FROM PUBLIC;
CREATE TRIGGER single AFTER INSERT ON daybook.workspace_usage_daily_by_agent
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT
    WHEN (current_setting('daybook.sole_writer', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION daybook.single_workspace_usage_daily_by_agent();

-- Workers of the version before would leave the new rollup as it is. They call the old function in every drain, so they fail until they are
-- replaced, and lose nothing.
DROP FUNCTION daybook.writes_of_generation();
CREATE FUNCTION daybook.writes_per_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 64::smallint';
COMMENT ON FUNCTION daybook.writes_per_generation() IS 'After how many writes of a bucket its generation rises. Each rise is a new entry in the index.';

-- +goose Down
DROP FUNCTION daybook.writes_per_generation();
CREATE FUNCTION daybook.writes_of_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 64::smallint';
COMMENT ON FUNCTION daybook.writes_of_generation() IS 'After how many writes of a bucket its generation rises. Each rise is a new entry in the index.';
DROP TABLE daybook.workspace_usage_daily_by_agent;
DROP FUNCTION daybook.single_workspace_usage_daily_by_agent();

-- The buckets. event_count is the number of facts in a bucket; a bucket without facts is deleted.

-- +goose Up

-- By the runtime's zone. Half-empty pages let a bucket grow in place (HOT) while its day lasts.
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
    PRIMARY KEY (runtime_id, bucket_date, provider, model)
) WITH (fillfactor = 80);

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
    PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model)
) WITH (fillfactor = 80);
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
    PRIMARY KEY (runtime_id, bucket_date, hour, provider, model)
) WITH (fillfactor = 80);
COMMENT ON COLUMN daybook.task_usage_daily_by_hour.task_count IS 'Tasks whose latest usage of this hour and model is in this bucket: exact when summed over any window that ends now.';

CREATE TABLE daybook.task_activity_by_hour (
    runtime_id uuid NOT NULL,
    hour       smallint NOT NULL,
    task_count bigint NOT NULL,
    PRIMARY KEY (runtime_id, hour)
) WITH (fillfactor = 50);
COMMENT ON TABLE daybook.task_activity_by_hour IS 'Tasks started, of all time, by hour of the runtime''s day.';

-- By UTC. A workspace may have usage without a project, hence unique indexes in place of primary keys.
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
    window_task_count  bigint NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX workspace_usage_daily_key ON daybook.workspace_usage_daily
    (workspace_id, bucket_date, project_id, agent_id, provider, model) NULLS NOT DISTINCT;
COMMENT ON COLUMN daybook.workspace_usage_daily.day_task_count IS 'Tasks of this day and model, each in one bucket: exact when summed over one day.';
COMMENT ON COLUMN daybook.workspace_usage_daily.window_task_count IS 'Tasks whose latest usage of this model is in this bucket: exact when summed over any window that ends now.';

CREATE TABLE daybook.workspace_run_time_daily (
    workspace_id       uuid NOT NULL,
    bucket_date        date NOT NULL,
    project_id         uuid,
    agent_id           uuid NOT NULL,
    total_microseconds bigint NOT NULL,
    task_count         bigint NOT NULL,
    failed_count       bigint NOT NULL
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX workspace_run_time_daily_key ON daybook.workspace_run_time_daily
    (workspace_id, bucket_date, project_id, agent_id) NULLS NOT DISTINCT;
COMMENT ON TABLE daybook.workspace_run_time_daily IS 'Completed and failed tasks by the UTC day of completed_at, and the exact sum of completed_at - started_at.';

-- +goose Down
DROP TABLE daybook.workspace_run_time_daily;
DROP TABLE daybook.workspace_usage_daily;
DROP TABLE daybook.task_activity_by_hour;
DROP TABLE daybook.task_usage_daily_by_hour;
DROP TABLE daybook.task_usage_daily_by_agent;
DROP TABLE daybook.task_usage_daily;

-- The same rollups as tables, which rival.recompute brings up to date, and the indexes that it needs. Those on the host's tables hold all
-- that it reads.
CREATE TABLE rival.daily AS SELECT * FROM rival.view_daily;
ALTER TABLE rival.daily ADD PRIMARY KEY (runtime_id, bucket_date, provider, model);

CREATE TABLE rival.by_agent AS SELECT * FROM rival.view_by_agent;
ALTER TABLE rival.by_agent ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model);

CREATE TABLE rival.by_hour AS SELECT * FROM rival.view_by_hour;
ALTER TABLE rival.by_hour ADD PRIMARY KEY (runtime_id, bucket_date, hour, provider, model);

CREATE TABLE rival.workspace AS SELECT * FROM rival.view_workspace;
ALTER TABLE rival.workspace ADD PRIMARY KEY (workspace_id, bucket_date, project_id, agent_id, provider, model);

CREATE TABLE rival.watermark AS SELECT max(updated_at) AS at FROM public.task_usage;

CREATE INDEX rival_updated_idx ON public.task_usage (updated_at);
CREATE INDEX rival_bucket_idx ON public.task_usage (provider, model, created_at)
    INCLUDE (task_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens);
CREATE INDEX rival_task_idx ON public.agent_task_queue (id) INCLUDE (runtime_id, agent_id, issue_id);

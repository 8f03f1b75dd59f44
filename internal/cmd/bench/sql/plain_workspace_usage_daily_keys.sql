CREATE UNIQUE INDEX ON plain.workspace_usage_daily (workspace_id, bucket_date, project_id, agent_id, provider, model) NULLS NOT DISTINCT;

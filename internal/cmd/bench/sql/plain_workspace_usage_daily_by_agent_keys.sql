CREATE UNIQUE INDEX ON plain.workspace_usage_daily_by_agent (workspace_id, bucket_date, agent_id, provider, model);

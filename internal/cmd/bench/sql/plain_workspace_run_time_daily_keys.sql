CREATE UNIQUE INDEX ON plain.workspace_run_time_daily (workspace_id, bucket_date, project_id, agent_id) NULLS NOT DISTINCT;

-- Not a migration: this tells sqlc, which knows no system columns, of those that the queries use.
ALTER TABLE daybook.ledger_task ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.ledger_usage ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.bucket_usage_by_agent ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.bucket_usage_by_hour ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.task_activity_by_hour ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.bucket_workspace_usage ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.bucket_workspace_usage_by_agent ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.workspace_run_time_daily ADD COLUMN ctid tid NOT NULL;

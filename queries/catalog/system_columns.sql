-- Not a migration: this tells sqlc, which knows no system columns, of those that the queries use.
ALTER TABLE daybook.task_usage_fact ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.task_usage_daily_by_agent ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.task_usage_daily_by_hour ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.task_activity_by_hour ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.workspace_usage_daily ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.workspace_usage_daily_by_agent ADD COLUMN ctid tid NOT NULL;
ALTER TABLE daybook.workspace_run_time_daily ADD COLUMN ctid tid NOT NULL;

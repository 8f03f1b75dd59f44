-- Not a migration: this tells sqlc, which knows no system columns, of those that the queries use.
ALTER TABLE daybook.task_usage_fact ADD COLUMN ctid tid NOT NULL;

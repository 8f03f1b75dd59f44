SELECT count(*), count(DISTINCT task_id) FROM daybook.task_usage_daily_dirty

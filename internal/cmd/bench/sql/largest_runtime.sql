SELECT runtime_id, count(*) FROM daybook.task_usage_fact WHERE runtime_id IS NOT NULL GROUP BY 1 ORDER BY 2 DESC LIMIT 1

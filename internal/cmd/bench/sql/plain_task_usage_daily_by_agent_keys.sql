ALTER TABLE plain.task_usage_daily_by_agent ADD PRIMARY KEY (runtime_id, bucket_date, agent_id, provider, model);

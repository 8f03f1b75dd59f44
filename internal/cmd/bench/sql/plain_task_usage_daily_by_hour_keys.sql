ALTER TABLE plain.task_usage_daily_by_hour ADD PRIMARY KEY (runtime_id, bucket_date, hour, provider, model);

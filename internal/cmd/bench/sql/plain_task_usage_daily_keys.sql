ALTER TABLE plain.task_usage_daily ADD PRIMARY KEY (runtime_id, bucket_date, provider, model);

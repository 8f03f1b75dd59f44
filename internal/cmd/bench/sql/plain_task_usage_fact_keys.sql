ALTER TABLE plain.task_usage_fact ADD PRIMARY KEY (task_id, provider, model);
CREATE INDEX ON plain.task_usage_fact (runtime_id, created_at);

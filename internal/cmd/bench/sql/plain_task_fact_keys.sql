ALTER TABLE plain.task_fact ADD PRIMARY KEY (task_id);
CREATE INDEX ON plain.task_fact (runtime_id);

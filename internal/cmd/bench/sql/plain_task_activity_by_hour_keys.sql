ALTER TABLE plain.task_activity_by_hour ADD PRIMARY KEY (runtime_id, hour);

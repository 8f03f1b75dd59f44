UPDATE public.agent_task_queue SET status = 'running', started_at = now() WHERE id = @task AND started_at IS NULL;

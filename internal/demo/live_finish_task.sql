UPDATE public.agent_task_queue SET status = @status, completed_at = now() WHERE id = @task AND completed_at IS NULL;

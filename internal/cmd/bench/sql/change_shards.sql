-- The usage of tasks of the first shards.
UPDATE public.task_usage SET output_tokens = output_tokens + 1, updated_at = now()
WHERE task_id IN (
    SELECT id FROM public.agent_task_queue WHERE daybook.shard_of(id) < $1 AND started_at IS NOT NULL ORDER BY created_at DESC LIMIT $2)

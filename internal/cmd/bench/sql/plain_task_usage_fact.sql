SELECT u.task_id, u.provider, u.model, a.workspace_id, t.runtime_id, t.agent_id, i.project_id,
    u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.created_at
FROM public.task_usage u
JOIN public.agent_task_queue t ON t.id = u.task_id
JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id

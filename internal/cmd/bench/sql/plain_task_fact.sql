SELECT t.id AS task_id, a.workspace_id, t.runtime_id, t.agent_id, i.project_id, t.started_at,
    CASE WHEN t.status IN ('completed', 'failed') THEN t.completed_at END AS completed_at, t.status = 'failed' AS failed
FROM public.agent_task_queue t
JOIN public.agent a ON a.id = t.agent_id
LEFT JOIN public.issue i ON i.id = t.issue_id
WHERE t.started_at IS NOT NULL

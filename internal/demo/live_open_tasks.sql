-- Tasks that an earlier writer left open.
SELECT id, started_at IS NOT NULL AS started
FROM public.agent_task_queue
WHERE status IN ('queued', 'dispatched', 'running') AND created_at > now() - interval '2 days'
ORDER BY created_at DESC
LIMIT 40;

-- A task of any agent that is not archived. Its issue is the one after a random id, or none.
INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id)
SELECT a.id,
       a.runtime_id,
       (SELECT i.id FROM public.issue i WHERE i.workspace_id = a.workspace_id AND i.id >= @near::uuid ORDER BY i.id LIMIT 1)
FROM public.agent a
WHERE a.archived_at IS NULL
ORDER BY random()
LIMIT 1
RETURNING id;

-- To another runtime of the agent's workspace; nothing happens when there is none.
UPDATE public.agent_task_queue t
SET runtime_id = (
    SELECT r.id
    FROM public.agent_runtime r
    JOIN public.agent a ON a.workspace_id = r.workspace_id
    WHERE a.id = t.agent_id AND r.id IS DISTINCT FROM t.runtime_id
    UNION ALL
    SELECT t.runtime_id
    LIMIT 1
)
WHERE t.id = @task;

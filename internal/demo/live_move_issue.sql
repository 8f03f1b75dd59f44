-- The task's issue to another project of its workspace, or to none.
UPDATE public.issue i
SET project_id = (
    SELECT p.id
    FROM public.project p
    WHERE p.workspace_id = i.workspace_id AND p.id IS DISTINCT FROM i.project_id AND p.id >= @near::uuid
    ORDER BY p.id
    LIMIT 1
)
WHERE i.id = (SELECT t.issue_id FROM public.agent_task_queue t WHERE t.id = @task);

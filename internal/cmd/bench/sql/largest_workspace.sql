-- The workspace with the most usage, by slug, and a user who may read it.
SELECT w.slug, m.user_id
FROM (
    SELECT a.workspace_id
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent a ON a.id = t.agent_id
    GROUP BY 1
    ORDER BY count(*) DESC, 1
    LIMIT 1
) largest
JOIN public.workspace w ON w.id = largest.workspace_id
JOIN public.member m ON m.workspace_id = w.id
ORDER BY m.role = 'owner' DESC, m.user_id
LIMIT 1

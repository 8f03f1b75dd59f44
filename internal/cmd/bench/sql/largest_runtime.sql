SELECT t.runtime_id, count(*)
FROM public.task_usage u
JOIN public.agent_task_queue t ON t.id = u.task_id
WHERE t.runtime_id IS NOT NULL
GROUP BY 1
ORDER BY 2 DESC
LIMIT 1

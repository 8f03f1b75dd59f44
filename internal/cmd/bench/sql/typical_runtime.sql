-- A busy runtime, and not the one that stands out: of ten runtimes of the workspace that $1 is the slug of, one has more usage.
WITH runtimes AS (
    SELECT t.runtime_id, count(*) AS usage
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent_runtime r ON r.id = t.runtime_id
    JOIN public.workspace w ON w.id = r.workspace_id
    WHERE w.slug = $1
    GROUP BY 1
)
SELECT runtime_id::text, usage
FROM runtimes
WHERE usage = (SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY usage) FROM runtimes)
ORDER BY 1
LIMIT 1

-- A busy runtime, and not the one that stands out: of ten runtimes of the workspace that $1 is the slug of, one has more usage.
WITH runtimes AS (
    SELECT f.runtime_id, count(*) AS usage
    FROM daybook.task_usage_fact f
    JOIN public.workspace w ON w.id = f.workspace_id
    WHERE w.slug = $1 AND f.runtime_id IS NOT NULL
    GROUP BY 1
)
SELECT runtime_id::text, usage
FROM runtimes
WHERE usage = (SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY usage) FROM runtimes)
ORDER BY 1
LIMIT 1

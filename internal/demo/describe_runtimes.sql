SELECT r.id::text, r.name, r.timezone, w.id::text, w.slug
FROM public.agent_runtime r
JOIN public.workspace w ON w.id = r.workspace_id
ORDER BY w.slug, r.name;

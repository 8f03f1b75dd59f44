-- The whole small world, so that a history begins with something to change.
WITH w AS (
    INSERT INTO public.workspace (id, slug) SELECT id, id::text FROM unnest(@workspaces::uuid[]) id RETURNING id
), p AS (
    INSERT INTO public.project (id, workspace_id)
    SELECT id, (SELECT min(id::text)::uuid FROM w) FROM unnest(@projects::uuid[]) id RETURNING id
), r AS (
    INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone)
    SELECT id, (@workspaces::uuid[])[1 + n % cardinality(@workspaces::uuid[])], 'r', 'p',
        (@zones::text[])[1 + n % cardinality(@zones::text[])]
    FROM unnest(@runtimes::uuid[]) WITH ORDINALITY AS x (id, n) RETURNING id
), a AS (
    INSERT INTO public.agent (id, workspace_id, runtime_id)
    SELECT id, (@workspaces::uuid[])[1 + n % cardinality(@workspaces::uuid[])],
        (@runtimes::uuid[])[1 + n % cardinality(@runtimes::uuid[])]
    FROM unnest(@agents::uuid[]) WITH ORDINALITY AS x (id, n) RETURNING id
)
INSERT INTO public.issue (id, workspace_id, project_id)
SELECT id, (@workspaces::uuid[])[1 + n % cardinality(@workspaces::uuid[])],
    CASE WHEN n % 3 > 0 THEN (@projects::uuid[])[1 + n % cardinality(@projects::uuid[])] END
FROM unnest(@issues::uuid[]) WITH ORDINALITY AS x (id, n)

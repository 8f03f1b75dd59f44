-- Workspaces and users. The owner owns every workspace, the member belongs to the first only, the outsider to none.
WITH workspaces AS (
    INSERT INTO public.workspace (id, slug, name, created_at)
    SELECT md5('demo workspace ' || n)::uuid,
           CASE n WHEN 1 THEN 'acme' WHEN 2 THEN 'globex' ELSE 'workspace-' || n END,
           CASE n WHEN 1 THEN 'Acme' WHEN 2 THEN 'Globex' ELSE 'Workspace ' || n END,
           @until::timestamptz - interval '1 day' * @days::int
    FROM generate_series(1, @workspaces::int) n
), users AS (
    INSERT INTO public."user" (id, email, created_at)
    SELECT md5('demo user ' || name)::uuid, name || '@demo.test', @until::timestamptz - interval '1 day' * @days::int
    FROM unnest(ARRAY['owner', 'member', 'outsider']) name
)
INSERT INTO public.member (id, workspace_id, user_id, role)
SELECT md5('demo member ' || name || ' ' || n)::uuid,
       md5('demo workspace ' || n)::uuid,
       md5('demo user ' || name)::uuid,
       name
FROM unnest(ARRAY['owner', 'member']) name
CROSS JOIN generate_series(1, @workspaces::int) n
WHERE name = 'owner' OR n = 1;

-- Projects and issues, each dealt to the workspaces in turn. One issue in five has no project.
WITH projects AS (
    INSERT INTO public.project (id, workspace_id, title)
    SELECT md5('demo project ' || n)::uuid,
           md5('demo workspace ' || 1 + (n - 1) % @workspaces::int)::uuid,
           'Project ' || n
    FROM generate_series(1, @projects::int) n
)
INSERT INTO public.issue (id, workspace_id, project_id, title)
SELECT md5('demo issue ' || n)::uuid,
       md5('demo workspace ' || w)::uuid,
       CASE WHEN u_project < 0.8
            THEN md5('demo project ' || w + @workspaces::int * floor(here * u_project / 0.8)::int)::uuid END,
       'Issue ' || n
FROM generate_series(1, @issues::int) n
CROSS JOIN LATERAL (
    SELECT 1 + (n - 1) % @workspaces::int AS w,
           (hashint8extended(n, hashtextextended('project', @seed::bigint)) & 4294967295) / 4294967296::float8 AS u_project
) AS draw
-- How many projects workspace w has.
CROSS JOIN LATERAL (SELECT (@projects::int - w) / @workspaces::int + 1 AS here) AS dealt;

-- What the schema public holds. Relations that belong to an extension count as nobody's.
-- marked: a host that CreateHost made. relations: all of them. foreign_relations: those that a host does not have.
SELECT coalesce(obj_description(to_regclass('public.workspace'), 'pg_class') = 'daybook demo host', false) AS marked,
       coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}') AS relations,
       coalesce(array_agg(c.relname::text ORDER BY c.relname) FILTER (WHERE c.relname NOT IN (
           'workspace', 'user', 'member', 'personal_access_token', 'project', 'agent_runtime', 'agent', 'issue',
           'agent_task_queue', 'task_usage')), '{}') AS foreign_relations
FROM pg_catalog.pg_class c
WHERE c.relnamespace = to_regnamespace('public')
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');

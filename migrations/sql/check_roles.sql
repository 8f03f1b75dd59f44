-- What is left for an administrator to run, because whoever ran the above may not: one row for each statement, none if all is well. A grant of
-- what one may not grant is only warned of. optional: without it everything works but what its remark says.
WITH needed (role, privilege, relation, columns) AS (
    VALUES
        ('daybook_owner', 'SELECT', 'agent_task_queue', NULL::text[]),
        ('daybook_worker', 'SELECT', 'agent', NULL),
        ('daybook_worker', 'SELECT', 'agent_runtime', NULL),
        ('daybook_worker', 'SELECT', 'agent_task_queue', NULL),
        ('daybook_worker', 'SELECT', 'issue', NULL),
        ('daybook_worker', 'SELECT', 'task_usage', NULL),
        ('daybook_worker', 'SELECT', 'workspace', '{id}'),
        ('daybook_api', 'SELECT', 'agent_runtime', NULL),
        ('daybook_api', 'SELECT', 'member', '{workspace_id,user_id,role}'),
        ('daybook_api', 'SELECT', 'workspace', '{id,slug}'),
        ('daybook_api', 'SELECT', 'personal_access_token', '{user_id,token_hash,expires_at,revoked}'),
        ('daybook_api_write', 'SELECT', 'agent_runtime', NULL),
        ('daybook_api_write', 'DELETE', 'agent_runtime', NULL),
        ('daybook_api_write', 'UPDATE', 'agent_runtime', '{timezone,visibility,updated_at}'),
        ('daybook_api_write', 'SELECT', 'agent', '{runtime_id,archived_at}'),
        ('daybook_api_write', 'DELETE', 'agent', NULL),
        ('daybook_api_write', 'SELECT', 'member', '{workspace_id,user_id,role}'),
        ('daybook_api_write', 'SELECT', 'personal_access_token', '{user_id,token_hash,expires_at,revoked}')
), roles (role) AS (
    VALUES ('daybook_owner'), ('daybook_worker'), ('daybook_api'), ('daybook_api_write'), ('daybook_metrics')
)
SELECT format('GRANT USAGE ON SCHEMA public TO %I;', r.role) AS statement, false AS optional
FROM roles r
WHERE NOT has_schema_privilege(r.role, 'public', 'USAGE')
UNION ALL
SELECT format('GRANT CREATE ON DATABASE %I TO daybook_owner;', current_database()), false
WHERE NOT has_database_privilege('daybook_owner', current_database(), 'CREATE')
UNION ALL
SELECT 'GRANT daybook_trigger TO daybook_owner;', false
WHERE NOT (pg_has_role('daybook_owner', 'daybook_trigger', 'USAGE') AND pg_has_role('daybook_owner', 'daybook_trigger',
    CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END))
UNION ALL
SELECT 'GRANT pg_read_all_stats TO daybook_owner; -- else nobody knows how old the oldest transaction is', true
WHERE NOT pg_has_role('daybook_owner', 'pg_read_all_stats', 'USAGE')
UNION ALL
SELECT format('GRANT %s%s ON public.%I TO %I;', n.privilege, ' (' || array_to_string(n.columns, ', ') || ')', n.relation, n.role), false
FROM needed n
CROSS JOIN to_regclass(format('public.%I', n.relation)) AS t (relation)
WHERE t.relation IS NOT NULL AND NOT has_table_privilege(n.role, t.relation, n.privilege)
  AND (n.columns IS NULL OR EXISTS (SELECT FROM unnest(n.columns) c WHERE NOT has_column_privilege(n.role, t.relation, c, n.privilege)));

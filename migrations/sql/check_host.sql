WITH required (relation, columns) AS (
    VALUES
        ('workspace', '{id,slug}'::text[]),
        ('user', '{id}'),
        ('member', '{workspace_id,user_id,role}'),
        ('agent_runtime', '{id,workspace_id,daemon_id,name,runtime_mode,provider,status,device_info,metadata,owner_id,visibility,timezone,last_seen_at,created_at,updated_at}'),
        ('agent', '{id,workspace_id,runtime_id,archived_at}'),
        ('issue', '{id,workspace_id,project_id}'),
        ('agent_task_queue', '{id,agent_id,runtime_id,issue_id,status,created_at,started_at,completed_at}'),
        ('task_usage', '{id,task_id,provider,model,input_tokens,output_tokens,cache_read_tokens,cache_write_tokens,created_at,updated_at}')
), typed (relation, type, columns) AS (
    -- Types that the numbers rest on: another would be counted, and counted wrong.
    VALUES
        ('agent_runtime', 'uuid'::regtype, '{id,workspace_id}'::text[]),
        ('agent', 'uuid', '{id,workspace_id,runtime_id}'),
        ('issue', 'uuid', '{id,project_id}'),
        ('agent_task_queue', 'uuid', '{id,agent_id,runtime_id,issue_id}'),
        ('task_usage', 'uuid', '{task_id}'),
        ('agent_task_queue', 'timestamptz', '{started_at,completed_at}'),
        ('task_usage', 'timestamptz', '{created_at}')
), found AS (
    SELECT relation, columns, to_regclass(format('public.%I', relation)) AS oid
    FROM required
)
SELECT format('Postgres 15 or later (this is %s)', current_setting('server_version')) AS problem
WHERE current_setting('server_version_num')::integer < 150000
UNION ALL
(SELECT format('table public.%I', relation) FROM found WHERE oid IS NULL ORDER BY relation)
UNION ALL
(SELECT format('column public.%I.%I', relation, c)
 FROM found, unnest(columns) AS c
 WHERE oid IS NOT NULL
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_attribute a
       WHERE a.attrelid = found.oid AND a.attname = c AND a.attnum > 0 AND NOT a.attisdropped)
 ORDER BY relation, c)
UNION ALL
(SELECT format('column public.%I.%I as %s (it is %s)', t.relation, a.attname, t.type, format_type(a.atttypid, a.atttypmod))
 FROM typed t
 JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(format('public.%I', t.relation)) AND a.attname = ANY(t.columns)
 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> t.type
 ORDER BY t.relation, a.attname)

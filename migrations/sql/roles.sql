-- Group roles with the least that each kind of program needs. They cannot log in: grant them to roles that can. Run it again after each
-- `worker migrate up`: it is harmless, and new tables need it. Whoever runs it may create roles, and owns the host's tables and the schema daybook.
--
--   daybook_owner      worker migrate, attach and detach; also needs the rights of the owner of the host's tables, to put triggers on and off
--   daybook_worker     worker run and every other command of the worker; reads the host, writes the schema daybook
--   daybook_api        the api: reads rollups, and who may see them
--   daybook_api_write  --write-database-url of the api: changes and deletes runtimes
--   daybook_metrics    /metrics of the api; grant it to the api's role too
--
-- The host's own roles need nothing.

-- Roles belong to the cluster: another database may make or drop them at the same moment. Once they have a privilege here they stay.
DO $$
DECLARE
    -- To give something to a role, and to grant what is the role's, takes the rights to act as it and to have its rights. From Postgres 16 on
    -- who makes a role is a member that has neither.
    own     text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END;
    options text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN '' ELSE ' WITH INHERIT TRUE, SET TRUE' END;
    name    text;
BEGIN
    FOREACH name IN ARRAY ARRAY['daybook_owner', 'daybook_worker', 'daybook_api', 'daybook_api_write', 'daybook_metrics'] LOOP
        FOR attempt IN 1..10 LOOP
            BEGIN
                IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = name) THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', name);
                END IF;
                IF name = 'daybook_owner' AND NOT (pg_catalog.pg_has_role(current_user, name, own) AND pg_catalog.pg_has_role(current_user, name, 'USAGE')) THEN
                    EXECUTE format('GRANT daybook_owner TO %I%s', current_user, options);
                END IF;
                EXECUTE format('GRANT USAGE ON SCHEMA daybook TO %I', name);
                EXIT;
            EXCEPTION
                WHEN duplicate_object OR unique_violation OR undefined_object THEN
                    IF attempt = 10 THEN
                        RAISE;
                    END IF;
            END;
        END LOOP;
    END LOOP;
END
$$;

-- What is not whoever runs this to grant, perhaps. The last statement lists what is then left for an administrator.
DO $$
DECLARE
    own text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER' ELSE 'SET' END;
    sql text;
BEGIN
    FOR sql IN
        SELECT 'GRANT USAGE ON SCHEMA public TO daybook_owner, daybook_worker, daybook_api, daybook_api_write, daybook_metrics'
        UNION ALL SELECT format('GRANT CREATE ON DATABASE %I TO daybook_owner', current_database())
        -- Migrations give functions to daybook_trigger. Who makes a role may grant it; else it was given WITH ADMIN OPTION.
        UNION ALL SELECT 'GRANT daybook_trigger TO daybook_owner' WHERE NOT pg_catalog.pg_has_role('daybook_owner', 'daybook_trigger', own)
        -- For daybook.cleanup_held.
        UNION ALL SELECT 'GRANT pg_read_all_stats TO daybook_owner' WHERE NOT pg_catalog.pg_has_role('daybook_owner', 'pg_read_all_stats', 'USAGE')
    LOOP
        BEGIN
            EXECUTE sql;
        EXCEPTION
            -- Another database of the cluster may grant the same role at the same moment.
            WHEN insufficient_privilege OR unique_violation THEN
                NULL;
        END;
    END LOOP;
END
$$;

-- The owner. Functions of triggers stay with daybook_trigger, whose rights they run with.
DO $$
DECLARE
    thing record;
BEGIN
    ALTER SCHEMA daybook OWNER TO daybook_owner;
    FOR thing IN
        SELECT format('%s %s', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass) AS name
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'daybook'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S') AND c.relowner <> 'daybook_owner'::regrole
          -- The sequence of a column goes with its table.
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
        UNION ALL
        SELECT format('ROUTINE %s', p.oid::regprocedure) FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'daybook'::regnamespace AND p.proowner NOT IN ('daybook_owner'::regrole, 'daybook_trigger'::regrole)
        UNION ALL
        SELECT format('TYPE %s', t.oid::regtype) FROM pg_catalog.pg_type t
        WHERE t.typnamespace = 'daybook'::regnamespace AND t.typtype = 'e' AND t.typowner <> 'daybook_owner'::regrole
    LOOP
        EXECUTE format('ALTER %s OWNER TO daybook_owner', thing.name);
    END LOOP;
END
$$;

-- A migration looks whether the host has tasks.
GRANT SELECT ON public.agent_task_queue TO daybook_owner;

-- The workers.
GRANT SELECT ON public.agent, public.agent_runtime, public.agent_task_queue, public.issue, public.task_usage TO daybook_worker;
GRANT SELECT (id) ON public.workspace TO daybook_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA daybook TO daybook_worker;
REVOKE INSERT, UPDATE, DELETE ON daybook.schema_migration, daybook.river_migration FROM daybook_worker;
GRANT TRUNCATE ON daybook.backfill_task, daybook.backfill_lane TO daybook_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA daybook TO daybook_worker;

-- The api: for its answers, for the lag that they say, and to be ready.
GRANT SELECT ON public.agent_runtime TO daybook_api;
GRANT SELECT (workspace_id, user_id, role) ON public.member TO daybook_api;
GRANT SELECT (id, slug) ON public.workspace TO daybook_api;
GRANT SELECT ON
    daybook.runtime_rollup, daybook.dimension, daybook.usage_name, daybook.ledger_task, daybook.ledger_usage,
    daybook.bucket_usage_daily, daybook.bucket_usage_by_agent, daybook.bucket_usage_by_hour, daybook.task_activity_by_hour,
    daybook.bucket_workspace_usage, daybook.bucket_workspace_usage_by_agent, daybook.workspace_run_time_daily,
    daybook.task_fact, daybook.task_usage_fact, daybook.task_usage_daily, daybook.task_usage_daily_by_agent, daybook.task_usage_daily_by_hour,
    daybook.workspace_usage_daily, daybook.workspace_usage_daily_by_agent,
    daybook.task_usage_daily_dirty, daybook.dirty_scope, daybook.worker_heartbeat, daybook.coverage, daybook.shard_progress,
    daybook.schema_migration, daybook.river_migration TO daybook_api;

-- Changes of runtimes.
GRANT SELECT ON daybook.runtime_rollup TO daybook_api_write;
GRANT SELECT, DELETE ON public.agent_runtime TO daybook_api_write;
GRANT UPDATE (timezone, visibility, updated_at) ON public.agent_runtime TO daybook_api_write;
GRANT SELECT (runtime_id, archived_at), DELETE ON public.agent TO daybook_api_write;
GRANT SELECT (workspace_id, user_id, role) ON public.member TO daybook_api_write;

-- Metrics.
GRANT SELECT ON
    daybook.task_usage_daily_dirty, daybook.dirty_scope, daybook.worker_heartbeat, daybook.coverage, daybook.shard_progress,
    daybook.runtime_rebuild, daybook.runtime_rollup, daybook.task_usage_daily_quarantine, daybook.refused_change, daybook.verification,
    daybook.drift_found, daybook.backfill_task, daybook.backfill_lane TO daybook_metrics;

-- The age of the oldest transaction, which the owner's rights see.
GRANT EXECUTE ON FUNCTION daybook.cleanup_held() TO daybook_worker, daybook_metrics;

-- Personal access tokens, if the host has them.
DO $$
BEGIN
    IF to_regclass('public.personal_access_token') IS NOT NULL THEN
        GRANT SELECT (user_id, token_hash, expires_at, revoked) ON public.personal_access_token TO daybook_api, daybook_api_write;
    END IF;
END
$$;

-- Where the host has taken what everybody may do by default from PUBLIC.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'daybook'::regnamespace AND p.prorettype <> 'trigger'::regtype AND NOT p.prosecdef
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO daybook_worker, daybook_api, daybook_api_write, daybook_metrics', f);
    END LOOP;
END
$$;

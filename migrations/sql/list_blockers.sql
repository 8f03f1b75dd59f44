-- The transactions that hold the host's tables against us. $1 tells whether readers do: taking a trigger off excludes them,
-- putting one on does not. Whoever may not see what others do still sees their locks, so start from those.
SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
    ELSE format('pid %s (%s)', l.pid, coalesce(a.usename, a.backend_type, 'unknown'))
        || coalesce(format(', open since %s UTC', date_trunc('second', a.xact_start AT TIME ZONE 'UTC')), '')
    END
FROM (
    SELECT DISTINCT pid
    FROM pg_catalog.pg_locks
    WHERE granted AND locktype = 'relation'
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND relation IN (
          to_regclass('public.agent'), to_regclass('public.agent_runtime'), to_regclass('public.agent_task_queue'),
          to_regclass('public.issue'), to_regclass('public.task_usage'))
      AND ($1::boolean OR mode NOT IN ('AccessShareLock', 'RowShareLock'))
) l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.pid IS DISTINCT FROM pg_backend_pid()
ORDER BY a.xact_start
LIMIT 5

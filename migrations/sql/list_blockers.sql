SELECT format('pid %s (%s), open since %s', a.pid, a.usename, date_trunc('second', a.xact_start AT TIME ZONE 'UTC') || ' UTC')
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
  AND EXISTS (
      SELECT FROM pg_catalog.pg_locks l
      WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
        AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
        AND l.relation IN (
            to_regclass('public.agent'), to_regclass('public.agent_runtime'), to_regclass('public.agent_task_queue'),
            to_regclass('public.issue'), to_regclass('public.task_usage'))
        AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
ORDER BY a.xact_start
LIMIT 5

-- Of the host's two large tables with their indexes, and of all that is in the schema daybook.
SELECT pg_total_relation_size('public.task_usage') + pg_total_relation_size('public.agent_task_queue'),
    (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'daybook'::regnamespace AND relkind IN ('r', 'm', 'S'))::bigint

-- Tables and indexes by themselves; TOAST counts with its table.
SELECT relname, CASE relkind WHEN 'i' THEN pg_relation_size(oid) ELSE pg_table_size(oid) END
FROM pg_class
WHERE relnamespace = 'daybook'::regnamespace AND relkind IN ('r', 'm', 'i')
ORDER BY 2 DESC, 1
LIMIT 8

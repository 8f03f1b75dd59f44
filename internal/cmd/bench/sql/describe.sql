-- The version, and the settings that matter.
SELECT format('PostgreSQL %s: %s', split_part(current_setting('server_version'), ' ', 1),
    (SELECT string_agg(format('`%s = %s`', name, current_setting(name)), ', ' ORDER BY n)
     FROM unnest(ARRAY['fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'work_mem', 'max_wal_size', 'wal_level', 'jit',
        'max_parallel_workers_per_gather']) WITH ORDINALITY AS s (name, n)))

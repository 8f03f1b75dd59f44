-- What an operator watches besides: who keeps Postgres from cleaning up, and how often verifications found a difference.

-- +goose Up

-- +goose StatementBegin
-- cleanup_held tells how old the oldest transaction is that keeps Postgres from removing old versions of rows, in any database, since Postgres
-- keeps those for all of them alike. It runs with the rights of its owner, who needs those of pg_read_all_stats, so that nobody else does. One row:
--
-- seconds: the age of the oldest such transaction, of sessions and prepared ones; 0 if there is none.
-- pid, name: of that one; name is its application_name, or the name of a prepared transaction, which has no pid.
-- transactions: how many have begun since the oldest that is kept for, by anybody. Of a standby with hot_standby_feedback and of a
--   replication slot Postgres notes that, and no time. holder: who that is.
-- visible: whether the owner may see when others began. If not, seconds is of what it may see.
CREATE FUNCTION daybook.cleanup_held()
    RETURNS TABLE (seconds float8, pid integer, name text, transactions bigint, holder text, visible boolean)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH held AS (
        SELECT a.xact_start AS since, a.pid, a.application_name AS name,
            greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
            format(CASE WHEN a.xact_start IS NULL AND a.backend_type = 'walsender' THEN 'standby %s (%s)' ELSE 'pid %s (%s)' END,
                a.pid, a.application_name) AS holder,
            a.backend_type IS NOT NULL AS visible
        FROM pg_stat_activity a
        WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
          -- A snapshot of VACUUM keeps nothing.
          AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid IN (a.pid, a.leader_pid))
        UNION ALL
        SELECT x.prepared, NULL, x.gid, age(x.transaction), format('prepared transaction %s', x.gid), true
        FROM pg_prepared_xacts x
        UNION ALL
        -- catalog_xmin keeps rows of catalogs only.
        SELECT NULL, NULL, NULL, age(s.xmin), format('replication slot %s', s.slot_name), true
        FROM pg_replication_slots s
        WHERE s.xmin IS NOT NULL
    )
    SELECT coalesce(extract(epoch FROM clock_timestamp() - oldest.since), 0)::float8, oldest.pid, oldest.name,
        coalesce(furthest.transactions, 0)::bigint, furthest.holder, (SELECT coalesce(bool_and(h.visible), true) FROM held h)
    FROM (SELECT) one
    LEFT JOIN LATERAL (SELECT * FROM held h WHERE h.since IS NOT NULL ORDER BY h.since LIMIT 1) oldest ON true
    LEFT JOIN LATERAL (SELECT * FROM held h ORDER BY h.transactions DESC, h.since LIMIT 1) furthest ON true
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION daybook.cleanup_held() FROM PUBLIC;
COMMENT ON FUNCTION daybook.cleanup_held() IS 'Its owner needs pg_read_all_stats to see the transactions of others; who calls it does not.';

CREATE TABLE daybook.drift_found (
    rollup      text PRIMARY KEY,
    differences bigint NOT NULL
);
COMMENT ON TABLE daybook.drift_found IS 'How many differences verifications have found so far, by table. What is repaired stays counted, and what is found again is counted again.';

-- Whoever asks whether verifications come in time knows no flag of the workers.
ALTER TABLE daybook.worker_heartbeat ADD COLUMN verify_period interval NOT NULL DEFAULT interval '24 hours';
COMMENT ON COLUMN daybook.worker_heartbeat.verify_period IS 'The time in which everything is to be verified once.';
ALTER TABLE daybook.verification ADD COLUMN waits_since timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN daybook.verification.waits_since IS 'While verified_at is null: since when it has waited for its first verification, or for one that was asked for.';

-- +goose Down
ALTER TABLE daybook.verification DROP COLUMN waits_since;
ALTER TABLE daybook.worker_heartbeat DROP COLUMN verify_period;
DROP TABLE daybook.drift_found;
DROP FUNCTION daybook.cleanup_held();

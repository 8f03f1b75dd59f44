-- Where drains begin to look. Drained entries stay in the index until Postgres may clean them up, and a transaction of the host that
-- is open for minutes keeps it from that: a scan from the beginning passes all of them, every second more.

-- +goose Up

CREATE TABLE daybook.shard_progress (
    shard     smallint PRIMARY KEY,
    low_id    bigint NOT NULL DEFAULT 0,
    open_xids xid8[] NOT NULL DEFAULT '{}',
    next_id   bigint,
    next_xid  xid8
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO daybook.shard_progress (shard) SELECT generate_series(0, daybook.shard_count() - 1);
COMMENT ON TABLE daybook.shard_progress IS 'How far each shard of the queue is drained. Numbers are not committed in their order, so being past one is not enough: see daybook.queue_start.';
COMMENT ON COLUMN daybook.shard_progress.low_id IS 'No entry up to this one is left, and none can come but from the transactions in open_xids.';
COMMENT ON COLUMN daybook.shard_progress.open_xids IS 'Transactions that were at work when low_id was set, and may have entries with lower numbers.';
COMMENT ON COLUMN daybook.shard_progress.next_id IS 'What low_id becomes when a later drain has looked at everything before it. Whoever has a number up to it has a transaction id below next_xid.';

-- queue_start is the number after which a shard's entries are to be looked for. It is 0 as soon as one of the transactions has ended
-- that may have left an entry further down, and where the mark cannot be right: when the numbers begin anew, or the mark is gone.
CREATE FUNCTION daybook.queue_start(shard smallint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((
        SELECT CASE
            WHEN EXISTS (SELECT FROM unnest(p.open_xids) AS x (xid) WHERE pg_visible_in_snapshot(x.xid, pg_current_snapshot())) THEN 0
            -- The api's role, which only looks for the lag, may not read the sequence. Workers may.
            WHEN CASE WHEN has_sequence_privilege('daybook.task_usage_daily_dirty_id_seq', 'SELECT')
                THEN p.low_id > pg_sequence_last_value('daybook.task_usage_daily_dirty_id_seq') ELSE false END THEN 0
            ELSE p.low_id END
        FROM daybook.shard_progress p
        WHERE p.shard = $1), 0)
$$;

-- +goose Down
DROP FUNCTION daybook.queue_start(smallint);
DROP TABLE daybook.shard_progress;

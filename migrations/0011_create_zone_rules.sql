-- Which rules of time zones the buckets were built with. Postgres reads them from a database of its machine, which is brought up to date
-- from time to time, and then past instants can fall on other days.

-- +goose Up

CREATE TABLE daybook.zone_rules (
    timezone    text PRIMARY KEY,
    fingerprint text NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE daybook.zone_rules IS 'The zones in use, and what their rules were when they were last compared with the buckets.';

CREATE TABLE daybook.zone_check (
    one_row           boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    revision          bigint NOT NULL DEFAULT 0,
    checked_at        timestamptz,
    server_started_at timestamptz
);
INSERT INTO daybook.zone_check DEFAULT VALUES;
COMMENT ON COLUMN daybook.zone_check.revision IS 'Counts the changes of rules. A server process keeps the rules that it has read, so workers then make new connections.';

-- +goose StatementBegin
-- zone_fingerprint is a digest of all that a zone does from 1970 to 2040: the offset at the beginning, and each change with its instant to
-- the second. A change is looked for between two days whose offsets differ, by halves. No zone has had two changes in one day that undo each
-- other. A zone that this Postgres does not know has the fingerprint 'unknown'.
CREATE FUNCTION daybook.zone_fingerprint(zone text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF daybook.effective_zone(zone) IS DISTINCT FROM zone THEN
        RETURN 'unknown';
    END IF;
    RETURN (
        WITH RECURSIVE sample AS (
            SELECT t AS at, (t AT TIME ZONE 'UTC' AT TIME ZONE zone) - t AS ahead
            FROM generate_series(timestamp '1970-01-01', timestamp '2040-01-01', interval '1 day') AS t
        ), change AS (
            SELECT s.* FROM (
                SELECT lag(at) OVER days AS low, at AS high, lag(ahead) OVER days AS ahead_low, ahead AS ahead_high
                FROM sample WINDOW days AS (ORDER BY at)
            ) s
            WHERE s.ahead_low <> s.ahead_high
            UNION ALL
            SELECT CASE WHEN m.ahead = c.ahead_low THEN m.at ELSE c.low END, CASE WHEN m.ahead = c.ahead_low THEN c.high ELSE m.at END,
                c.ahead_low, CASE WHEN m.ahead = c.ahead_low THEN c.ahead_high ELSE m.ahead END
            FROM change c
            CROSS JOIN LATERAL (SELECT c.low + (c.high - c.low) / 2 AS at) h
            CROSS JOIN LATERAL (SELECT h.at, (h.at AT TIME ZONE 'UTC' AT TIME ZONE zone) - h.at AS ahead) m
            WHERE c.high - c.low > interval '1 second'
        )
        SELECT md5((SELECT s.ahead::text FROM sample s ORDER BY s.at LIMIT 1)
            || coalesce(string_agg(extract(epoch FROM c.high)::text || ' ' || c.ahead_high, ',' ORDER BY c.high), ''))
        FROM change c
        WHERE c.high - c.low <= interval '1 second');
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION daybook.zone_fingerprint(text);
DROP TABLE daybook.zone_check;
DROP TABLE daybook.zone_rules;

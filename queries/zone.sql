-- How changed rules of time zones are found.

-- name: IsZoneCheckFresh :one
-- When the server has been started anew, it may have new rules.
SELECT coalesce((
    SELECT c.checked_at >= clock_timestamp() - make_interval(secs => @period_seconds) AND c.server_started_at = pg_postmaster_start_time()
    FROM daybook.zone_check c), false)::boolean AS fresh;

-- name: CompareZoneRules :many
-- Each zone in use, with its rules as this server process knows them and as they were noted.
SELECT z.timezone, daybook.zone_fingerprint(z.timezone)::text AS fingerprint, n.fingerprint AS noted
FROM (SELECT DISTINCT r.timezone FROM daybook.runtime_rollup r) z
LEFT JOIN daybook.zone_rules n ON n.timezone = z.timezone
ORDER BY z.timezone;

-- name: NoteZoneRules :execrows
-- Notes the rules of a zone and, if they have changed, counts the change. Returns 1 for a change that nobody else has noted before. What is noted
-- for the first time changes no note that somebody else has made meanwhile.
WITH noted AS (
    INSERT INTO daybook.zone_rules (timezone, fingerprint) VALUES (@timezone, @fingerprint)
    ON CONFLICT (timezone) DO UPDATE SET fingerprint = excluded.fingerprint, noted_at = excluded.noted_at
    WHERE @changed::boolean AND zone_rules.fingerprint <> excluded.fingerprint
    RETURNING timezone
)
UPDATE daybook.zone_check SET revision = revision + 1 WHERE @changed::boolean AND EXISTS (SELECT FROM noted);

-- name: NoteZoneCheck :exec
UPDATE daybook.zone_check SET checked_at = clock_timestamp(), server_started_at = pg_postmaster_start_time();

-- name: ListRuntimesOfZone :many
SELECT runtime_id FROM daybook.runtime_rollup WHERE timezone = @timezone ORDER BY runtime_id;

-- name: RequestRebuildsOfUnknownZones :one
-- Of all runtimes whose buckets are in a zone that Postgres does not know any more. Returns how many they are.
WITH unknown AS (
    SELECT r.runtime_id FROM daybook.runtime_rollup r WHERE daybook.effective_zone(r.timezone) <> r.timezone
), asked AS (
    INSERT INTO daybook.runtime_rebuild (runtime_id)
    SELECT u.runtime_id FROM unknown u
    WHERE NOT EXISTS (SELECT FROM daybook.runtime_rebuild q WHERE q.runtime_id = u.runtime_id)
)
SELECT count(*) FROM unknown;

-- name: ListRuntimesOfNewZones :many
-- Runtimes that count as UTC though Postgres knows their zone now.
SELECT runtime_id
FROM daybook.runtime_rollup
WHERE timezone <> host_timezone AND daybook.effective_zone(host_timezone) <> timezone
ORDER BY runtime_id;

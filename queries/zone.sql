-- How changed rules of time zones are found.

-- name: TryLockZoneCheck :one
SELECT pg_try_advisory_xact_lock(@lock_class::integer, 0);

-- name: IsZoneCheckDue :one
-- When the server has been started anew, it may have new rules.
SELECT (checked_at IS NULL OR checked_at < clock_timestamp() - make_interval(secs => @period_seconds)
    OR server_started_at IS DISTINCT FROM pg_postmaster_start_time())::boolean AS due
FROM daybook.zone_check;

-- name: CompareZoneRules :many
-- Each zone in use, with its rules as this server process knows them and as they were noted.
SELECT z.timezone, daybook.zone_fingerprint(z.timezone)::text AS fingerprint, n.fingerprint AS noted
FROM (SELECT DISTINCT r.timezone FROM daybook.runtime_rollup r) z
LEFT JOIN daybook.zone_rules n ON n.timezone = z.timezone
ORDER BY z.timezone;

-- name: NoteZoneRules :exec
INSERT INTO daybook.zone_rules (timezone, fingerprint)
SELECT unnest(@timezones::text[]), unnest(@fingerprints::text[])
ON CONFLICT (timezone) DO UPDATE SET fingerprint = excluded.fingerprint, noted_at = excluded.noted_at;

-- name: NoteZoneCheck :exec
UPDATE daybook.zone_check
SET revision = revision + @changes, checked_at = clock_timestamp(), server_started_at = pg_postmaster_start_time();

-- name: ListRuntimesOfZone :many
SELECT runtime_id FROM daybook.runtime_rollup WHERE timezone = @timezone ORDER BY runtime_id;

-- name: ListRuntimesOfNewZones :many
-- Runtimes that count as UTC though Postgres knows their zone now.
SELECT runtime_id
FROM daybook.runtime_rollup
WHERE timezone <> host_timezone AND daybook.effective_zone(host_timezone) <> timezone
ORDER BY runtime_id;

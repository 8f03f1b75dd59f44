-- How days are closed and old facts removed.

-- name: LockPrune :exec
-- Waits for rebuilds that are at work. New ones end at once.
SELECT pg_advisory_xact_lock(@lock_class::integer, 0);

-- name: CloseDays :one
-- With all shards locked, so that every drain sees the same. Does nothing where later days are closed already, nor where the first open day
-- is not long ago enough. Today is that of UTC.
UPDATE daybook.coverage
SET closed_before = greatest(closed_before, CASE WHEN @before::date <= (clock_timestamp() AT TIME ZONE 'UTC')::date - @min_days::integer
    THEN @before::date ELSE closed_before END)
RETURNING closed_before, ((clock_timestamp() AT TIME ZONE 'UTC')::date - @min_days::integer)::date AS latest;

-- name: DeleteOldFacts :execrows
-- Some of the facts of a runtime, or of none where it is null. A fact that a drain is just making younger stays.
DELETE FROM daybook.ledger_usage f
USING (
    SELECT o.task_id, o.name_id
    FROM daybook.dimension d
    JOIN daybook.ledger_usage o ON o.dimension_id = d.id
    WHERE (d.runtime_id = sqlc.narg(runtime_id)::uuid OR (sqlc.narg(runtime_id)::uuid IS NULL AND d.runtime_id IS NULL))
      AND o.created_at < (SELECT daybook.kept_from())
      AND (o.created_at AT TIME ZONE 'UTC')::date <= (SELECT (daybook.kept_from() AT TIME ZONE 'UTC')::date)
    LIMIT @max_facts
) old
WHERE f.task_id = old.task_id AND f.name_id = old.name_id AND f.created_at < (SELECT daybook.kept_from());

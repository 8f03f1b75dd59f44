// Package state reads from the database how the rollups are, for whoever reports it: the metrics of the api and `worker status`. Both
// say the same, and both say it when the workers are dead.
package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"daybook/queries"
)

// insufficientPrivilege is the SQLSTATE of what a role may not do.
const insufficientPrivilege = "42501"

// State is how the rollups are, by the database's clock.
type State struct {
	Lag      queries.GetLagRow
	Status   queries.GetStatusRow
	Coverage queries.GetCoverageRow
	Verified queries.GetVerifiedRow
	// Drift is what the last verifications found; empty without differences.
	Drift []queries.ListDriftRow
	// DriftFound is what all verifications so far have found; what is repaired stays in it.
	DriftFound []queries.DaybookDriftFound
	// Workers are those whose sign of life is not late.
	Workers int64
	// Cleanup is who keeps Postgres from cleaning up. Visible is false, and the rest means nothing, where this role or the owner of the schema
	// may not see it.
	Cleanup queries.GetCleanupHeldRow
}

// Read asks the database, in several statements. It counts dirty entries up to maxCount, so that it is cheap however long the queue is.
func Read(ctx context.Context, q *queries.Queries, maxCount int32) (State, error) {
	var s State
	for _, part := range []struct {
		name string
		read func() error
	}{
		{"lag", func() (err error) { s.Lag, err = q.GetLag(ctx); return err }},
		{"status", func() (err error) { s.Status, err = q.GetStatus(ctx, maxCount); return err }},
		{"coverage", func() (err error) { s.Coverage, err = q.GetCoverage(ctx); return err }},
		{"verified runtimes", func() (err error) { s.Verified, err = q.GetVerified(ctx); return err }},
		{"drift", func() (err error) { s.Drift, err = q.ListDrift(ctx); return err }},
		{"drift found", func() (err error) { s.DriftFound, err = q.ListDriftFound(ctx); return err }},
		{"workers", func() (err error) { s.Workers, err = q.CountWorkers(ctx); return err }},
		{"who keeps Postgres from cleaning up", func() (err error) { s.Cleanup, err = getCleanup(ctx, q); return err }},
	} {
		if err := part.read(); err != nil {
			return s, fmt.Errorf("get %s: %w", part.name, err)
		}
	}
	return s, nil
}

// getCleanup is not an error for a role that may not ask: everything else it may.
func getCleanup(ctx context.Context, q *queries.Queries) (queries.GetCleanupHeldRow, error) {
	held, err := q.GetCleanupHeld(ctx)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == insufficientPrivilege {
		return queries.GetCleanupHeldRow{}, nil
	}
	return held, err
}

// LagSeconds returns the lag, and whether it is known: it is not while triggers are off or a backfill is due, since then changes may
// be missing of which there is no entry, nor on a standby that nothing tells how old it is.
func (s State) LagSeconds() (float64, bool) { return s.Lag.Seconds, s.Lag.Known && s.Lag.Counted }

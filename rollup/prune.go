package rollup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

const (
	// MinOpenDays is how many days before today, in UTC, are always open. The longest window of the api is 365 days, and Postgres takes no zone
	// that is more than a week behind UTC.
	MinOpenDays = 374
	// pruneBatch is the number of facts of one transaction.
	pruneBatch = 5000
)

// ErrTooRecent means that days were to be closed that the api still serves.
var ErrTooRecent = errors.New("these days are still served")

// PruneResult says what Prune did.
type PruneResult struct {
	// ClosedBefore is the first day that is open, now or since an earlier call that closed more.
	ClosedBefore time.Time
	// Facts is the number of facts that were removed.
	Facts int64
}

// Prune closes the days before the given one, and removes the facts of their usage. Their buckets stay as they are for ever: usage from then that
// the host changes later, adds or deletes is not counted again; a drain that meets it says so, and counts the rest of the task. Days do
// not open again. A day begins at midnight of the zone of each bucket. Facts of the last week before it stay too, since no zone is
// further ahead of UTC. Facts of tasks stay, for their starts are served for all time.
//
// It returns ErrTooRecent unless the first open day is at least MinOpenDays ago. Progress, which may be nil, is told how many facts are removed.
func Prune(ctx context.Context, db DB, before time.Time, progress func(removed int64)) (PruneResult, error) {
	var (
		result   PruneResult
		runtimes []pgtype.UUID
	)
	err := inTxPatiently(ctx, db, func(tx pgx.Tx) (err error) {
		result.ClosedBefore, err = closeDays(ctx, queries.New(tx), before)
		return err
	})
	if err != nil {
		return result, fmt.Errorf("close days: %w", err)
	}
	err = inTx(ctx, db, func(tx pgx.Tx) (err error) {
		runtimes, err = queries.New(tx).ListCountedRuntimes(ctx)
		return err
	})
	if err != nil {
		return result, fmt.Errorf("list runtimes: %w", err)
	}
	runtimes = append(runtimes, pgtype.UUID{}) // Tasks without a runtime.
	for _, runtime := range runtimes {
		for {
			removed := int64(0)
			err := inTxPatiently(ctx, db, func(tx pgx.Tx) (err error) {
				q := queries.New(tx)
				if err := q.PrepareList(ctx, prepareList); err != nil {
					return err
				}
				removed, err = q.DeleteOldFacts(ctx, queries.DeleteOldFactsParams{RuntimeID: runtime, MaxFacts: pruneBatch})
				return err
			})
			if err != nil {
				return result, fmt.Errorf("delete old facts: %w", err)
			}
			result.Facts += removed
			if progress != nil {
				progress(result.Facts)
			}
			if removed < pruneBatch {
				break
			}
		}
	}
	return result, nil
}

// closeDays waits for rebuilds and drains that are at work, since each of them must see the same days open from its beginning to its end. It
// gives up soon, and is tried again, so that rebuilds that are asked for meanwhile get their turn.
func closeDays(ctx context.Context, q *queries.Queries, before time.Time) (time.Time, error) {
	if err := prepareRebuild(ctx, q, rebuildLockTimeout); err != nil {
		return time.Time{}, err
	}
	if err := q.LockPrune(ctx, lockClassPrune); err != nil {
		return time.Time{}, fmt.Errorf("wait for rebuilds: %w", err)
	}
	if err := lockAllShards(ctx, q); err != nil {
		return time.Time{}, err
	}
	row, err := q.CloseDays(ctx, queries.CloseDaysParams{Before: pgtype.Date{Time: before, Valid: true}, MinDays: MinOpenDays})
	if err != nil {
		return time.Time{}, err
	}
	if before.After(row.Latest.Time) {
		return time.Time{}, fmt.Errorf("%w; the latest that may be closed are those before %s", ErrTooRecent, row.Latest.Time.Format(time.DateOnly))
	}
	return row.ClosedBefore.Time, nil
}

package rollup

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// rebuildLockTimeout bounds how long a rebuild waits for the drains that are at work on its runtime. Meanwhile new drains
// leave the runtime's entries for later.
const rebuildLockTimeout = "2s"

// rebuildMemory is work_mem for a rebuild, enough to sort a runtime of some hundred thousand usage rows in memory.
const rebuildMemory = "128MB"

// RebuildResult says what a rebuild did.
type RebuildResult struct {
	// Busy is set when another rebuild of the runtime is at work, or a drain held the runtime for longer than the rebuild
	// waits. Nothing was done; the request stays.
	Busy bool
	// Requests is the number of requests that this rebuild answered.
	Requests int
	// Timezone is the zone that the buckets are in now; HostTimezone is what the host calls it. They differ if Postgres does
	// not know the host's zone. Both are empty if the host has deleted the runtime.
	Timezone, HostTimezone string
}

// Rebuild replaces the zone-dependent buckets of one runtime by what its facts contribute in the host's present zone, in one
// transaction. It deletes exactly the requests that it saw before it read the zone. Readers see all the old buckets or
// all the new ones.
func Rebuild(ctx context.Context, db DB, runtime pgtype.UUID) (RebuildResult, error) {
	var result RebuildResult
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		var err error
		result, err = rebuild(ctx, tx, runtime)
		return err
	})
	if isLockConflict(err) {
		return RebuildResult{Busy: true}, nil
	}
	if err != nil {
		return RebuildResult{}, fmt.Errorf("rebuild runtime %s: %w", runtime, err)
	}
	return result, nil
}

func rebuild(ctx context.Context, tx pgx.Tx, runtime pgtype.UUID) (RebuildResult, error) {
	q := queries.New(tx)
	if err := prepareRebuild(ctx, q, rebuildLockTimeout); err != nil {
		return RebuildResult{}, err
	}
	locked, err := q.TryLockRebuild(ctx, queries.TryLockRebuildParams{
		PruneClass: lockClassPrune, LockClass: lockClassRebuild, RuntimeID: runtime,
	})
	if err != nil || !locked {
		return RebuildResult{Busy: true}, err
	}
	if err := q.LockRuntime(ctx, queries.LockRuntimeParams{LockClass: lockClassRuntime, RuntimeID: runtime}); err != nil {
		return RebuildResult{}, fmt.Errorf("lock runtime: %w", err)
	}
	if err := awaitDrainsOfMany(ctx, tx); err != nil {
		return RebuildResult{}, fmt.Errorf("wait for drains of many runtimes: %w", err)
	}
	revisions, err := q.ListRebuildRevisions(ctx, runtime)
	if err != nil {
		return RebuildResult{}, fmt.Errorf("list requests: %w", err)
	}
	result := RebuildResult{Requests: len(revisions)}
	zones, err := q.SetRuntimeZone(ctx, runtime)
	if err != nil {
		return result, fmt.Errorf("set zone: %w", err)
	}
	if len(zones) == 0 {
		// The host has deleted the runtime. Drains take its buckets back, and until then need its zone.
		counted, err := q.IsRuntimeCounted(ctx, runtime)
		if err != nil {
			return result, fmt.Errorf("look for facts: %w", err)
		}
		if !counted {
			// Buckets that are left were put there by hand.
			if err := deleteBuckets(ctx, q, runtime); err != nil {
				return result, err
			}
			if err := q.DeleteRuntimeRollup(ctx, runtime); err != nil {
				return result, fmt.Errorf("delete runtime rollup: %w", err)
			}
		}
	} else {
		result.Timezone, result.HostTimezone = zones[0].Timezone, zones[0].HostTimezone
		if err := replaceBuckets(ctx, q, runtime); err != nil {
			return result, err
		}
	}
	err = q.DeleteRebuildRequests(ctx, queries.DeleteRebuildRequestsParams{RuntimeID: runtime, Revisions: revisions})
	if err != nil {
		return result, fmt.Errorf("delete requests: %w", err)
	}
	return result, nil
}

// awaitDrainsOfMany waits for the drains that began before a runtime was locked and hold one lock for all of their runtimes. Later ones see that it is
// locked. So the lock is let go at once, as only the end of a subtransaction can: while it is held, or waited for, drains of many runtimes do
// little at a time.
func awaitDrainsOfMany(ctx context.Context, tx pgx.Tx) error {
	point, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	return errors.Join(queries.New(point).LockManyRuntimes(ctx, lockClassManyRuntimes), point.Rollback(ctx))
}

// prepareRebuild begins a transaction that changes many buckets. It waits for each lock for as long as lockTimeout says; "0" is for ever.
func prepareRebuild(ctx context.Context, q *queries.Queries, lockTimeout string) error {
	err := q.PrepareRebuild(ctx, queries.PrepareRebuildParams{IdleTimeout: idleTimeout, LockTimeout: lockTimeout, WorkMem: rebuildMemory})
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	return nil
}

// lockAllShards waits for the drains at work and keeps new ones from beginning until the transaction ends.
func lockAllShards(ctx context.Context, q *queries.Queries) error {
	shards, err := q.ListShards(ctx)
	if err != nil {
		return fmt.Errorf("list shards: %w", err)
	}
	if err := q.LockShards(ctx, queries.LockShardsParams{LockClass: lockClassShard, Shards: widen(shards)}); err != nil {
		return fmt.Errorf("lock shards: %w", err)
	}
	return nil
}

// A step is a statement about one runtime or workspace.
type step struct {
	name string
	do   func(context.Context, pgtype.UUID) error
}

func replaceBuckets(ctx context.Context, q *queries.Queries, runtime pgtype.UUID) error {
	if err := deleteBuckets(ctx, q, runtime); err != nil {
		return err
	}
	return runSteps(ctx, runtime, []step{
		{"insert buckets of usage", q.InsertUsageBuckets},
		{"insert task_activity_by_hour", q.InsertActivityByHour},
	})
}

func deleteBuckets(ctx context.Context, q *queries.Queries, runtime pgtype.UUID) error {
	return runSteps(ctx, runtime, []step{
		{"delete task_usage_daily", q.DeleteUsageDaily},
		{"delete task_usage_daily_by_agent", q.DeleteUsageByAgent},
		{"delete task_usage_daily_by_hour", q.DeleteUsageByHour},
		{"delete task_activity_by_hour", q.DeleteActivityByHour},
	})
}

func runSteps(ctx context.Context, id pgtype.UUID, steps []step) error {
	for _, step := range steps {
		if err := step.do(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

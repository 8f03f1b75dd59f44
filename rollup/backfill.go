package rollup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"daybook/queries"
)

const (
	// backfillLanes is the number of transactions at work at once. Each has a part of the list.
	backfillLanes = 2
	// backfillBatch is the number of tasks of one transaction. It is larger than a drain's because neighbours in the list share
	// buckets; but drains wait for it, so it takes about a second.
	backfillBatch = 12000
)

// ErrSuperseded is returned by Backfill when its list was lost before all of it was counted: another backfill listed anew, or
// Postgres crashed. Calling it again is right.
var ErrSuperseded = errors.New("the list of tasks was replaced or lost before all of it was counted; run the backfill again")

// ErrNotAttached is returned by Backfill when triggers are missing: changes made meanwhile would be lost.
var ErrNotAttached = errors.New("the triggers are not on the host's tables")

// BackfillConfig configures Backfill.
type BackfillConfig struct {
	// Progress is called after every batch with the number of tasks done and to do in all, by one goroutine at a time.
	// Optional.
	Progress func(done, total int64)
	// RejectedZone is called for each runtime whose zone Postgres does not know; it counts as UTC. Optional.
	RejectedZone func(RejectedZone)
}

// Backfill counts every task of the host, whatever was counted before. The host may go on writing and workers may go on
// draining. It can be stopped at any moment; the next call goes on from there, unless triggers were off meanwhile. After
// it has finished, a call starts from the beginning. Calls at the same time share the work.
func Backfill(ctx context.Context, db DB, config BackfillConfig) error {
	var (
		lanes    []int16
		shards   []int16
		coverage queries.GetCoverageRow
		rejected []queries.EnsureAllRuntimeRollupsRow
	)
	err := inTxPatiently(ctx, db, func(tx pgx.Tx) error {
		var err error
		q := queries.New(tx)
		if coverage, err = startBackfill(ctx, q); err != nil {
			return err
		}
		if rejected, err = q.EnsureAllRuntimeRollups(ctx); err != nil {
			return fmt.Errorf("ensure runtime rollups: %w", err)
		}
		// Another version of this program may have made the list, with other lanes.
		if lanes, err = q.ListBackfillLanes(ctx); err != nil {
			return fmt.Errorf("list lanes: %w", err)
		}
		if shards, err = q.ListShards(ctx); err != nil {
			return fmt.Errorf("list shards: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("start backfill: %w", err)
	}

	if config.RejectedZone != nil {
		for _, r := range rejected {
			config.RejectedZone(RejectedZone{RuntimeID: r.RuntimeID, Timezone: r.HostTimezone})
		}
	}

	var mu sync.Mutex
	done := coverage.TasksDone
	report := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		done += int64(n)
		if config.Progress != nil {
			config.Progress(done, coverage.BackfillTasks)
		}
	}
	report(0)
	sizes := slices.Repeat([]int32{backfillBatch}, len(lanes))
	for {
		n, err := backfillLanesOnce(ctx, db, lanes, sizes, shards, report)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		// What the host has written meanwhile. Workers only try for a shard, and would seldom get it.
		if _, err := Drain(ctx, db, shards, nil); err != nil {
			return err
		}
	}
	err = inTxPatiently(ctx, db, func(tx pgx.Tx) error { return finishBackfill(ctx, queries.New(tx), coverage) })
	if err != nil {
		return fmt.Errorf("finish backfill: %w", err)
	}
	return settle(ctx, db)
}

// finishBackfill records that the list that was started with is counted, unless it is not.
func finishBackfill(ctx context.Context, q *queries.Queries, started queries.GetCoverageRow) error {
	if err := q.PrepareList(ctx, prepareList); err != nil {
		return err
	}
	if err := q.LockBackfill(ctx, lockClassBackfill); err != nil {
		return err
	}
	coverage, err := q.GetCoverage(ctx)
	if err != nil {
		return err
	}
	switch {
	case !coverage.BackfillListedAt.Time.Equal(started.BackfillListedAt.Time):
		return ErrSuperseded
	case coverage.BackfillFinishedAt.Valid:
		return nil // By a call that shared the work.
	case coverage.TasksDone < coverage.BackfillTasks:
		return ErrSuperseded
	}
	if err := q.TruncateBackfillList(ctx); err != nil {
		return err
	}
	return q.FinishBackfill(ctx)
}

// settle does what is left after a list is counted, so that nothing depends on running workers: rebuilds of runtimes whose zone
// changed while the triggers were off, and tasks that the lanes left to drains.
func settle(ctx context.Context, db DB) error {
	var (
		rebuilds []queries.ListRequestedRebuildsRow
		shards   []int16
	)
	err := inTxPatiently(ctx, db, func(tx pgx.Tx) error { // The host locks whole tables too, in whatever order.
		q := queries.New(tx)
		if _, err := q.RequestOutdatedRebuilds(ctx); err != nil {
			return fmt.Errorf("request outdated rebuilds: %w", err)
		}
		var err error
		rebuilds, err = q.ListRequestedRebuilds(ctx, queries.ListRequestedRebuildsParams{RetrySeconds: 1, MaxRuntimes: math.MaxInt32})
		if err != nil {
			return fmt.Errorf("list requested rebuilds: %w", err)
		}
		shards, err = q.ListShards(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range rebuilds {
		if _, err := Rebuild(ctx, db, r.RuntimeID); err != nil {
			return err
		}
	}
	_, err = Drain(ctx, db, shards, nil)
	return err
}

// startBackfill lists the tasks to count, unless a list that is still good is being worked on.
func startBackfill(ctx context.Context, q *queries.Queries) (queries.GetCoverageRow, error) {
	if err := q.PrepareList(ctx, prepareList); err != nil {
		return queries.GetCoverageRow{}, fmt.Errorf("prepare: %w", err)
	}
	if err := q.LockBackfill(ctx, lockClassBackfill); err != nil {
		return queries.GetCoverageRow{}, fmt.Errorf("lock: %w", err)
	}
	coverage, err := q.GetCoverage(ctx)
	if err != nil {
		return coverage, fmt.Errorf("get coverage: %w", err)
	}
	if !coverage.Attached {
		return coverage, ErrNotAttached
	}
	if coverage.HasList && coverage.ListedSinceAttached && !coverage.BackfillFinishedAt.Valid {
		return coverage, nil
	}
	if err := q.TruncateBackfillList(ctx); err != nil {
		return coverage, fmt.Errorf("clear list: %w", err)
	}
	err = q.InitBackfillLanes(ctx, queries.InitBackfillLanesParams{LaneCount: backfillLanes, FirstSeq: math.MinInt64})
	if err != nil {
		return coverage, fmt.Errorf("init lanes: %w", err)
	}
	tasks, err := q.ListTasksToBackfill(ctx, backfillLanes)
	if err != nil {
		return coverage, fmt.Errorf("list tasks: %w", err)
	}
	if err := q.StartBackfill(ctx, tasks); err != nil {
		return coverage, err
	}
	return q.GetCoverage(ctx)
}

// backfillLanesOnce counts the next batch of each lane, at the same time, and returns how many tasks that were. Sizes are those of the batches, and
// become those of the next ones: a batch that was cut reads what it does not count.
func backfillLanesOnce(ctx context.Context, db DB, lanes []int16, sizes []int32, shards []int16, report func(int)) (int, error) {
	counted := make([]int, len(lanes))
	group, ctx := errgroup.WithContext(ctx)
	for i, lane := range lanes {
		group.Go(func() error {
			b := backfillBatchOf{lane: lane, size: sizes[i], next: sizes[i], shards: shards}
			for {
				n, err := b.count(ctx, db, apply)
				if isTaskError(err) {
					// Drains find out which task it is.
					n, err = b.count(ctx, db, leaveToDrains)
				}
				switch {
				case isLockConflict(err): // A drain is at work, or the host locks a table. Each try waits, so this does not spin.
					continue
				case err != nil:
					return fmt.Errorf("backfill lane %d: %w", lane, err)
				}
				counted[i], sizes[i] = n, b.next
				report(n)
				return nil
			}
		})
	}
	err := group.Wait()
	total := 0
	for _, n := range counted {
		total += n
	}
	return total, err
}

func leaveToDrains(_ context.Context, _ *queries.Queries, tasks []pgtype.UUID) (applyResult, error) {
	return applyResult{deferred: tasks}, nil
}

// backfillBatchOf is the next batch of a lane.
type backfillBatchOf struct {
	lane       int16
	size, next int32   // in tasks, of this batch and of the next one
	shards     []int16 // all of them
}

// count counts the batch in one transaction and returns its size. Tasks whose runtime is being rebuilt become dirty entries.
func (b *backfillBatchOf) count(
	ctx context.Context, db DB, apply func(context.Context, *queries.Queries, []pgtype.UUID) (applyResult, error),
) (int, error) {
	n := 0
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.PrepareDrain(ctx, prepareDrain); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		if err := q.LockLane(ctx, queries.LockLaneParams{LockClass: lockClassBackfill, Lane: int32(b.lane)}); err != nil {
			return fmt.Errorf("lock lane: %w", err)
		}
		if err := q.ShareShards(ctx, queries.ShareShardsParams{LockClass: lockClassShard, Shards: widen(b.shards)}); err != nil {
			return fmt.Errorf("lock shards: %w", err)
		}
		listed, err := q.ListBackfillBatch(ctx, queries.ListBackfillBatchParams{Lane: b.lane, MaxTasks: b.size})
		if err != nil || len(listed) == 0 {
			return err
		}
		tasks := make([]pgtype.UUID, len(listed))
		for i, t := range listed {
			tasks[i] = t.TaskID
		}
		result, err := apply(ctx, q, tasks)
		if err != nil {
			return err
		}
		if len(result.deferred) > 0 {
			if err := q.MarkTasks(ctx, result.deferred); err != nil {
				return fmt.Errorf("mark deferred tasks: %w", err)
			}
		}
		n = len(listed) - len(result.notReached)
		b.next = nextSize(b.size, n, n < len(listed), result.many, backfillBatch)
		err = q.AdvanceBackfill(ctx, queries.AdvanceBackfillParams{Lane: b.lane, Seq: listed[n-1].Seq, Done: int64(n)})
		if err != nil {
			return fmt.Errorf("advance: %w", err)
		}
		return nil
	})
	return n, err
}

package rollup

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"daybook/queries"
)

// backfillBatch is the number of tasks of one backfill transaction. It is larger than a drain's because neighbours in the list
// share buckets; still, a drain of the shard waits for it.
const backfillBatch = 4000

// ErrNotAttached is returned by Backfill when triggers are missing: changes made meanwhile would be lost.
var ErrNotAttached = errors.New("the triggers are not on the host's tables")

// BackfillConfig configures Backfill.
type BackfillConfig struct {
	// Parallel is the number of transactions at work at once. Default 2.
	Parallel int
	// Progress is called after every batch with the number of tasks done and to do in all, by one goroutine at a time.
	// Optional.
	Progress func(done, total int64)
}

// Backfill counts every task of the host, whatever was counted before. The host may go on writing and workers may go on
// draining. It can be stopped at any moment; the next call goes on from there, unless triggers were off meanwhile. After
// it has finished, a call starts from the beginning. Calls at the same time share the work.
func Backfill(ctx context.Context, db DB, config BackfillConfig) error {
	if config.Parallel <= 0 {
		config.Parallel = 2
	}
	var (
		shards   []int16
		coverage queries.GetCoverageRow
	)
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var err error
		q := queries.New(tx)
		if coverage, err = startBackfill(ctx, q); err != nil {
			return err
		}
		shards, err = q.ListShards(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("start backfill: %w", err)
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
	group, groupCtx := errgroup.WithContext(ctx)
	for worker := range config.Parallel {
		var own []int16
		for i := worker; i < len(shards); i += config.Parallel {
			own = append(own, shards[i])
		}
		group.Go(func() error { return backfillShards(groupCtx, db, own, report) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.TruncateBackfillList(ctx); err != nil {
			return err
		}
		if _, err := q.RequestOutdatedRebuilds(ctx); err != nil {
			return err
		}
		return q.FinishBackfill(ctx)
	})
	if err != nil {
		return fmt.Errorf("finish backfill: %w", err)
	}
	return nil
}

// startBackfill lists the tasks to count, unless a list that is still good is being worked on.
func startBackfill(ctx context.Context, q *queries.Queries) (queries.GetCoverageRow, error) {
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
	if err := q.InitBackfillShards(ctx); err != nil {
		return coverage, fmt.Errorf("init shards: %w", err)
	}
	tasks, err := q.ListTasksToBackfill(ctx)
	if err != nil {
		return coverage, fmt.Errorf("list tasks: %w", err)
	}
	if err := q.StartBackfill(ctx, tasks); err != nil {
		return coverage, err
	}
	return q.GetCoverage(ctx)
}

// backfillShards counts what is listed for some shards, one batch of each in turn, so that drains get at every shard in between.
func backfillShards(ctx context.Context, db DB, shards []int16, report func(int)) error {
	for len(shards) > 0 {
		var unfinished []int16
		for _, shard := range shards {
			n, err := backfillOnce(ctx, db, shard)
			if err != nil {
				return fmt.Errorf("backfill shard %d: %w", shard, err)
			}
			if n > 0 {
				unfinished = append(unfinished, shard)
				report(n)
			}
		}
		shards = unfinished
	}
	return nil
}

// backfillOnce counts the next batch of a shard in one transaction and returns its size. Tasks that it cannot count now (a
// rebuild holds their runtime, or their data is bad) become dirty entries, and drains deal with them.
func backfillOnce(ctx context.Context, db DB, shard int16) (int, error) {
	n, err := backfillBatchOf(ctx, db, shard, apply)
	if isTaskError(err) {
		return backfillBatchOf(ctx, db, shard,
			func(_ context.Context, _ *queries.Queries, tasks []pgtype.UUID) (applyResult, error) {
				return applyResult{deferred: tasks}, nil
			})
	}
	return n, err
}

type applyFunc func(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (applyResult, error)

func backfillBatchOf(ctx context.Context, db DB, shard int16, apply applyFunc) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.PrepareDrain(ctx, idleTimeout); err != nil {
			return fmt.Errorf("prepare: %w", err)
		}
		if err := q.LockShard(ctx, queries.LockShardParams{LockClass: lockClassShard, Shard: int32(shard)}); err != nil {
			return fmt.Errorf("lock shard: %w", err)
		}
		listed, err := q.ListBackfillBatch(ctx, queries.ListBackfillBatchParams{Shard: shard, MaxTasks: backfillBatch})
		if err != nil || len(listed) == 0 {
			return err
		}
		tasks := make([]pgtype.UUID, len(listed))
		for i, l := range listed {
			tasks[i] = l.TaskID
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
		err = q.AdvanceBackfill(ctx, queries.AdvanceBackfillParams{Shard: shard, Seq: listed[n-1].Seq, Done: int64(n)})
		if err != nil {
			return fmt.Errorf("advance: %w", err)
		}
		return nil
	})
	return n, err
}

package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"daybook/queries"
	"daybook/rollup"
)

const (
	// maxGrouped is how many entries one drain gets, unless a single shard has more: about one transaction.
	maxGrouped = 4000
	// veryLong is how many numbers are between the first entry of a shard and its last where the queue is very long. All shards take their numbers
	// from one sequence.
	veryLong = 64_000
	// maxCounted bounds the count of a shard's entries. A shard that has as many counts as fullShard.
	maxCounted = 300
	fullShard  = maxGrouped / 4
	// minWait is how long an entry waits at least, in seconds, unless there are enough for a transaction. However many workers look at the queue, few
	// entries are left to come together, and no bucket is written more often than four times a second.
	minWait = 0.25
	// blockedLogPause is the least time between two lines that say that drains are blocked.
	blockedLogPause = 30 * time.Second
)

// DrainArgs are those of a drain of some shards.
type DrainArgs struct {
	Shards []int16 `json:"shards"`
	// After, if any, has for each shard the number of the entry behind which the drain begins, instead of at the beginning of the queue.
	After []int64 `json:"after,omitempty"`
	// Tick is the second of the tick that found entries, by the database's clock.
	Tick int64 `json:"tick"`
}

// Kind is River's name for the job.
func (DrainArgs) Kind() string { return "daybook_drain" }

// InsertOpts is the same for every drain.
func (DrainArgs) InsertOpts() river.InsertOpts { return insertOpts(queueDrain, unfinished) }

// errBlocked is only counted: the next tick tries again.
var errBlocked = errors.New("a lock was not granted in time")

// warnBlocked logs, once in blockedLogPause, that nothing is counted.
func (f *Fleet) warnBlocked() {
	if !f.saidBlocked.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(blockedLogPause, func() { f.saidBlocked.Store(false) })
	f.config.Logger.Warn("nothing is counted: somebody holds a lock that drains need, on a table of the host perhaps; the runbook tells how to find out who")
}

type drainWorker struct {
	river.WorkerDefaults[DrainArgs]
	fleet *Fleet
}

func (w *drainWorker) Timeout(*river.Job[DrainArgs]) time.Duration { return drainTimeout }

func (w *drainWorker) Work(ctx context.Context, job *river.Job[DrainArgs]) error {
	budget, cancel := context.WithTimeout(w.fleet.stopping, drainBudget)
	defer cancel()
	result, err := rollup.DrainFrom(ctx, w.fleet.config.Pool, job.Args.Shards, job.Args.After, func() bool { return budget.Err() != nil })
	w.fleet.metrics.drained(result)
	switch {
	case err == nil && result.Entries == 0 && result.Blocked:
		w.fleet.metrics.ended(workDrain, false, errBlocked)
		w.fleet.warnBlocked()
	case err == nil && result.Entries == 0 && result.Busy:
		// Another worker does the work: this is neither a success nor a failure.
	default:
		w.fleet.metrics.ended(workDrain, ctx.Err() != nil, err)
	}
	for _, q := range result.Quarantined {
		w.fleet.config.Logger.Error("task quarantined: it cannot be counted as it is",
			slog.String("task_id", q.TaskID.String()), slog.Any("error", q.Reason))
	}
	if n := len(result.Refused); n > 0 {
		w.fleet.config.Logger.Warn("tasks changed whose usage is of days that are closed; that usage stays as it was counted",
			slog.Int("tasks", n), slog.String("task_id", result.Refused[0].String()))
	}
	for _, id := range result.BelowZero.Runtimes {
		w.fleet.config.Logger.Error("a bucket was below zero; rebuilding its runtime", slog.String("runtime_id", id.String()))
	}
	for _, id := range result.BelowZero.Workspaces {
		w.fleet.config.Logger.Error("a bucket was below zero; verifying its workspace", slog.String("workspace_id", id.String()))
	}
	for _, z := range result.RejectedZones {
		w.fleet.reportZone(z)
	}
	return err
}

// drainJobs returns the drains that the queue needs now, and whether there is anything in it.
func (f *Fleet) drainJobs(ctx context.Context) (jobs []river.InsertManyParams, waiting bool, err error) {
	shards, err := queries.New(f.config.Pool).ListDirtyShards(ctx, maxCounted)
	if err != nil {
		return nil, false, fmt.Errorf("list dirty shards: %w", err)
	}
	if !isDue(shards) {
		return nil, len(shards) > 0, nil
	}
	for _, args := range groupShards(shards) {
		jobs = append(jobs, river.InsertManyParams{Args: args})
	}
	return jobs, true, nil
}

// isDue tells whether the entries that wait are to be drained now.
func isDue(waiting []queries.ListDirtyShardsRow) bool {
	entries := int64(0)
	for _, w := range waiting {
		entries += w.Entries
		if w.Seconds >= minWait || w.Seconds < 0 || entries >= maxGrouped { // The clock may have been set back.
			return true
		}
	}
	return false
}

// groupShards puts shards together as long as one transaction does for all of them. Each bucket that changes is then written once
// in a tick, and not once for each shard: a row that is written often is slow to find while a transaction of the host keeps Postgres
// from cleaning up. A long queue is cut into many drains, which work beside each other. If it is very long, each begins in another part of it:
// entries that came together are of the same days, and drains that write the same buckets wait for each other.
func groupShards(waiting []queries.ListDirtyShardsRow) []DrainArgs {
	var groups []DrainArgs
	entries := int64(0)
	for _, w := range waiting {
		n := w.Entries
		if n >= maxCounted {
			n = max(n, fullShard)
		}
		if len(groups) == 0 || entries+n > maxGrouped {
			groups = append(groups, DrainArgs{Tick: w.Tick})
			entries = 0
		}
		last := &groups[len(groups)-1]
		last.Shards = append(last.Shards, w.Shard)
		entries += n
	}
	spread(groups, waiting)
	return groups
}

// spread lets the groups of a very long queue begin in parts of it that are as far from each other as can be. The first begins at the beginning.
func spread(groups []DrainArgs, waiting []queries.ListDirtyShardsRow) {
	n := 0
	for i := range groups {
		shards := waiting[n : n+len(groups[i].Shards)]
		n += len(shards)
		var after []int64
		for _, w := range shards {
			if length := w.LastID - w.FirstID; length >= veryLong {
				after = append(after, w.FirstID+length*int64(i)/int64(len(groups)))
			}
		}
		if i > 0 && len(after) == len(shards) {
			groups[i].After = after
		}
	}
}

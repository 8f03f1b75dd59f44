package jobs

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"daybook/rollup"
)

// ExpandArgs are those of the job that turns changes of many tasks at once into dirty entries.
type ExpandArgs struct {
	// Tick is the second of the tick that found such a change, by the database's clock.
	Tick int64 `json:"tick"`
}

// Kind is River's name for the job.
func (ExpandArgs) Kind() string { return "daybook_expand" }

// InsertOpts is the same for every expansion.
func (ExpandArgs) InsertOpts() river.InsertOpts { return insertOpts(queueDrain, unfinished) }

type expandWorker struct {
	river.WorkerDefaults[ExpandArgs]
	fleet *Fleet
}

// Timeout is generous: after a TRUNCATE every task that was counted gets an entry.
func (w *expandWorker) Timeout(*river.Job[ExpandArgs]) time.Duration { return rebuildTimeout }

// Work also asks for the drains, so that the change need not wait for the next tick.
func (w *expandWorker) Work(ctx context.Context, _ *river.Job[ExpandArgs]) error {
	marked, err := rollup.ExpandScopes(ctx, w.fleet.config.Pool)
	if err != nil || marked == 0 {
		return err
	}
	jobs, _, err := w.fleet.drainJobs(ctx)
	if err != nil || len(jobs) == 0 {
		return err
	}
	_, err = w.fleet.client.InsertMany(ctx, jobs)
	return err
}

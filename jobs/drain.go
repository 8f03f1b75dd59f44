package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"daybook/rollup"
)

// DrainArgs are those of a drain of one shard.
type DrainArgs struct {
	Shard int16 `json:"shard"`
	// Tick is the second of the tick that found entries, by the database's clock.
	Tick int64 `json:"tick"`
}

// Kind is River's name for the job.
func (DrainArgs) Kind() string { return "daybook_drain" }

// InsertOpts is the same for every drain.
func (DrainArgs) InsertOpts() river.InsertOpts { return insertOpts(queueDrain) }

type drainWorker struct {
	river.WorkerDefaults[DrainArgs]
	fleet *Fleet
}

func (w *drainWorker) Timeout(*river.Job[DrainArgs]) time.Duration { return drainTimeout }

func (w *drainWorker) Work(ctx context.Context, job *river.Job[DrainArgs]) error {
	budget, cancel := context.WithTimeout(w.fleet.stopping, drainBudget)
	defer cancel()
	result, err := rollup.Drain(ctx, w.fleet.config.Pool, job.Args.Shard, func() bool { return budget.Err() != nil })
	for _, q := range result.Quarantined {
		w.fleet.config.Logger.Error("task quarantined: it cannot be counted as it is",
			slog.String("task_id", q.TaskID.String()), slog.Any("error", q.Reason))
	}
	for _, z := range result.RejectedZones {
		w.fleet.reportZone(z)
	}
	return err
}

package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"daybook/queries"
	"daybook/rollup"
)

const (
	// verifyEvery is the time between two samples, of all workers together.
	verifyEvery = time.Minute
	// verifyBudget is after how long a sample takes up no further runtimes. The rest is for the next one.
	verifyBudget = 20 * time.Second
	// resetEvery is the number of samples between two looks at the whole queue.
	resetEvery = 10
	// maxLogged bounds the differences of one table in one sample that are logged one by one.
	maxLogged = 5
)

// VerifyArgs are those of the job that verifies, and repairs, the part of the host whose turn it is.
type VerifyArgs struct {
	// Minute is that of the tick that asked for it, by the database's clock.
	Minute int64 `json:"minute"`
}

// Kind is River's name for the job.
func (VerifyArgs) Kind() string { return "daybook_verify" }

// InsertOpts is the same for every sample.
func (VerifyArgs) InsertOpts() river.InsertOpts {
	return insertOpts(queueVerify, rivertype.JobStates())
}

type verifyWorker struct {
	river.WorkerDefaults[VerifyArgs]
	fleet *Fleet
}

// Timeout is that of the longest comparison, of the rollups of all workspaces.
func (w *verifyWorker) Timeout(*river.Job[VerifyArgs]) time.Duration { return rebuildTimeout }

// Work verifies nothing before all of the host is counted: everything would differ.
func (w *verifyWorker) Work(ctx context.Context, job *river.Job[VerifyArgs]) error {
	config := w.fleet.config
	q := queries.New(config.Pool)
	if job.Args.Minute%resetEvery == 0 {
		// Drains look at the whole queue once, should somebody have put entries below their mark.
		if err := q.ResetProgress(ctx); err != nil {
			return fmt.Errorf("reset progress: %w", err)
		}
	}
	coverage, err := q.GetCoverage(ctx)
	if err != nil {
		return fmt.Errorf("get coverage: %w", err)
	}
	if !coverage.Complete {
		return nil
	}
	budget, cancel := context.WithTimeout(w.fleet.stopping, verifyBudget)
	defer cancel()
	differences := make(map[string]int)
	result, err := rollup.VerifySample(ctx, config.Pool, rollup.Sample{
		Period: config.VerifyPeriod, Every: verifyEvery,
		Enough: func() bool { return budget.Err() != nil },
		Difference: func(d rollup.Difference) {
			if differences[d.Rollup]++; differences[d.Rollup] <= maxLogged {
				config.Logger.Error("a rollup differs; repairing it", slog.String("table", d.Rollup),
					slog.String("expected", string(d.Expected)), slog.String("found", string(d.Found)))
			}
		},
	})
	if errors.Is(err, rollup.ErrAllDirty) {
		return nil // The next sample can tell.
	}
	w.fleet.metrics.ended(workVerify, ctx.Err() != nil, err)
	if len(differences) > 0 {
		config.Logger.Error("rollups differed", slog.Any("differences", differences), slog.Int("tasks_counted_again", result.Tasks),
			slog.Int("runtimes_rebuilt", result.Runtimes), slog.Int("workspaces_rebuilt", result.Workspaces),
			slog.Any("left", result.Left.Differences))
	}
	return err
}

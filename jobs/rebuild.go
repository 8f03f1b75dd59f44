package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"daybook/queries"
	"daybook/rollup"
)

// RebuildArgs are those of a rebuild of one runtime.
type RebuildArgs struct {
	RuntimeID string `json:"runtime_id"`
	// Revision is the latest request, so a zone that changes during a rebuild gets a job of its own.
	Revision int64 `json:"revision"`
	// Attempt changes every few seconds while the request stands, so a rebuild whose worker died is taken up again.
	Attempt int64 `json:"attempt"`
}

// Kind is River's name for the job.
func (RebuildArgs) Kind() string { return "daybook_rebuild" }

// InsertOpts is the same for every rebuild.
func (RebuildArgs) InsertOpts() river.InsertOpts {
	return insertOpts(queueRebuild, rivertype.JobStates())
}

type rebuildWorker struct {
	river.WorkerDefaults[RebuildArgs]
	fleet *Fleet
}

func (w *rebuildWorker) Timeout(*river.Job[RebuildArgs]) time.Duration { return rebuildTimeout }

func (w *rebuildWorker) Work(ctx context.Context, job *river.Job[RebuildArgs]) error {
	var runtime pgtype.UUID
	if err := runtime.Scan(job.Args.RuntimeID); err != nil {
		return river.JobCancel(fmt.Errorf("runtime id: %w", err))
	}
	// A copy of this job may have answered the request. To rebuild again would keep drains from the runtime for nothing.
	requested, err := queries.New(w.fleet.config.Pool).IsRebuildRequested(ctx, runtime)
	if err != nil || !requested {
		return err
	}
	timer := prometheus.NewTimer(w.fleet.metrics.rebuilds)
	result, err := rollup.Rebuild(ctx, w.fleet.config.Pool, runtime)
	if err != nil {
		w.fleet.metrics.ended(workRebuild, ctx.Err() != nil, err)
		return err
	}
	if result.Busy || result.Requests == 0 {
		return nil
	}
	timer.ObserveDuration()
	w.fleet.metrics.ended(workRebuild, false, nil)
	if result.Timezone != result.HostTimezone {
		w.fleet.reportZone(rollup.RejectedZone{RuntimeID: runtime, Timezone: result.HostTimezone})
	}
	w.fleet.config.Logger.Info("runtime rebuilt",
		slog.String("runtime_id", job.Args.RuntimeID), slog.String("timezone", result.Timezone))
	return nil
}

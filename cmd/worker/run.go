package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/postgres"
	"daybook/internal/sysmon"
	"daybook/jobs"
	"daybook/migrations"
)

const (
	// stopTimeout bounds a stop as a whole: running jobs get 8 s of it, and what is left over is for rolling back.
	stopTimeout = 20 * time.Second
	// startTimeout bounds one attempt to start, so that a database that does not answer is asked again.
	startTimeout = 10 * time.Second
	// Between two attempts is the time from minStartPause, doubled each time, to maxStartPause. It is short: all changes wait meanwhile.
	minStartPause, maxStartPause = time.Second, 5 * time.Second
)

// The garbage of a batch is large beside what lives of it. These bound the heap of a worker with default flags so that the process stays below
// 64 MiB while it drains a long queue; that costs a tenth of its CPU time more than Go's defaults. GOGC and GOMEMLIMIT win over them.
const (
	gcPercent      = 75
	heapLimit      = 16 << 20
	heapOfOneDrain = 6 << 20
)

type runCmd struct {
	Tick           time.Duration `env:"DAYBOOK_WORKER_TICK" default:"1s" help:"Time between two looks at the queue while it is empty; half of it while it is not."`
	DrainWorkers   int           `name:"drain-workers" env:"DAYBOOK_WORKER_DRAINS" default:"4" help:"Drains that this process does at once, each of one or more shards."`
	RebuildWorkers int           `name:"rebuild-workers" env:"DAYBOOK_WORKER_REBUILDS" default:"2" help:"Runtimes that this process rebuilds at once."`
	MetricsAddr    string        `name:"metrics-addr" env:"DAYBOOK_WORKER_METRICS_ADDR" placeholder:"ADDRESS" help:"Address to serve Prometheus metrics on, at /metrics, and /healthz and /readyz. Default 127.0.0.1:9465, or none where that is taken."`
	RiverUI        bool          `name:"river-ui" env:"DAYBOOK_WORKER_RIVER_UI" help:"Serve River UI at /riverui/ of the metrics address. It asks for no password, and whoever reaches it may cancel and delete jobs."`
	VerifyPeriod   time.Duration `name:"verify-period" env:"DAYBOOK_WORKER_VERIFY_PERIOD" default:"24h" help:"Time in which the workers together compare everything with the source once, and repair what differs."`
}

// Validate is called by kong.
func (c *runCmd) Validate() error {
	if c.Tick < 100*time.Millisecond || c.Tick > time.Minute {
		return fmt.Errorf("--tick must be from 100ms to 1m, not %s", c.Tick)
	}
	if c.VerifyPeriod < time.Minute {
		return fmt.Errorf("--verify-period must be 1m or more, not %s", c.VerifyPeriod)
	}
	if c.DrainWorkers < 1 || c.DrainWorkers > 64 || c.RebuildWorkers < 1 || c.RebuildWorkers > 64 {
		return fmt.Errorf("--drain-workers and --rebuild-workers must be from 1 to 64")
	}
	return nil
}

func (c *runCmd) connections() int32 {
	return jobs.Config{DrainWorkers: c.DrainWorkers, RebuildWorkers: c.RebuildWorkers}.Connections()
}

// Run works until the context of e is done, then stops in an orderly way. It waits until it can begin, rather than end: whatever starts it
// again would do so later and later.
func (c *runCmd) Run(e *env) error {
	sysmon.StayAwake(e.ctx, e.args)
	listener, err := c.listenAdmin(e.logger)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit + int64(c.DrainWorkers)*heapOfOneDrain)
	}
	// Metrics are there until the last job has ended.
	serving, stopServing := context.WithCancel(context.WithoutCancel(e.ctx))
	var served sync.WaitGroup
	defer served.Wait()
	defer stopServing()
	admin := c.newAdmin()
	if listener != nil {
		served.Go(func() { serveAdmin(serving, listener, admin, e.logger) })
	}
	fleet := c.beginPatiently(serving, e, admin)
	if fleet == nil {
		e.logger.Info("worker stopped")
		return nil
	}
	<-e.ctx.Done()
	e.logger.Info("worker stopping")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), stopTimeout)
	defer cancel()
	if err := fleet.Stop(ctx); err != nil {
		return err
	}
	e.logger.Info("worker stopped")
	return nil
}

// beginPatiently begins until it succeeds. It returns nil if it is stopped before.
func (c *runCmd) beginPatiently(serving context.Context, e *env, admin *admin) *jobs.Fleet {
	for pause := minStartPause; ; pause = min(2*pause, maxStartPause) {
		fleet, err := c.begin(serving, e, admin)
		if err == nil {
			return fleet
		}
		if e.ctx.Err() == nil {
			e.logger.Error("cannot start yet; trying again", slog.Any("error", err), slog.Duration("after", pause))
		}
		select {
		case <-e.ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// begin returns a fleet that works, if the database can be asked and has the schema that this version needs.
func (c *runCmd) begin(serving context.Context, e *env, admin *admin) (_ *jobs.Fleet, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, startTimeout)
	defer cancel()
	if err := migrations.CheckCurrent(ctx, e.pool); err != nil {
		return nil, err
	}
	pooled := false
	err = e.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		pooled = postgres.IsPooled(conn.Conn())
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	fleet, err := jobs.New(jobs.Config{
		Pool: e.pool, Logger: e.logger, Tick: c.Tick, DrainWorkers: c.DrainWorkers, RebuildWorkers: c.RebuildWorkers,
		VerifyPeriod: c.VerifyPeriod, Pooled: pooled,
	})
	if err != nil {
		return nil, err
	}
	var riverUI http.Handler
	if c.RiverUI {
		// It asks the database in the background, which must not go on for a fleet that does not start.
		asking, stopAsking := context.WithCancel(serving)
		defer func() {
			if err != nil {
				stopAsking()
			}
		}()
		if riverUI, err = fleet.UI(asking, riverUIPath); err != nil {
			return nil, err
		}
	}
	if err = fleet.Start(e.ctx); err != nil {
		return nil, err
	}
	admin.show(fleet, riverUI)
	e.logger.Info("worker started", slog.Duration("tick", c.Tick), slog.Int("drain_workers", c.DrainWorkers),
		slog.Bool("connection_pooler", pooled))
	return fleet, nil
}

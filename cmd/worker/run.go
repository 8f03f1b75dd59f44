package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/postgres"
	"daybook/jobs"
	"daybook/migrations"
)

// stopTimeout bounds a stop as a whole: running jobs get 8 s of it, and what is left over is for rolling back.
const stopTimeout = 20 * time.Second

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

// Run works until the context of e is done, then stops in an orderly way.
func (c *runCmd) Run(e *env) error {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	pooled := false
	err := e.pool.AcquireFunc(e.ctx, func(conn *pgxpool.Conn) error {
		pooled = postgres.IsPooled(conn.Conn())
		return nil
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	fleet, err := jobs.New(jobs.Config{
		Pool: e.pool, Logger: e.logger, Tick: c.Tick, DrainWorkers: c.DrainWorkers, RebuildWorkers: c.RebuildWorkers,
		VerifyPeriod: c.VerifyPeriod, Pooled: pooled,
	})
	if err != nil {
		return err
	}
	admin, err := c.listenAdmin(e.logger)
	if err != nil {
		return err
	}
	// Metrics are there until the last job has ended.
	serving, stopServing := context.WithCancel(context.WithoutCancel(e.ctx))
	var served sync.WaitGroup
	defer served.Wait()
	defer stopServing()
	if admin != nil {
		handler, err := c.adminHandler(serving, fleet)
		if err != nil {
			return err
		}
		served.Go(func() { serveAdmin(serving, admin, handler, e.logger) })
	}
	if err := fleet.Start(e.ctx); err != nil {
		return err
	}
	e.logger.Info("worker started", slog.Duration("tick", c.Tick), slog.Int("drain_workers", c.DrainWorkers),
		slog.Bool("connection_pooler", pooled))
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

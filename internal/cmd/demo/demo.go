package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	demohost "daybook/internal/demo"
	"daybook/internal/localpg"
	"daybook/internal/postgres"
)

const (
	// Children that take longer to stop are killed.
	stopBound = 20 * time.Second
	// A worker that was killed stays away for a moment, so that one sees the other take over.
	restartPause = 2 * time.Second
	// The first answer needs a running api only, but the machine may be slow.
	readyBound = time.Minute
)

type demo struct {
	flags
	root     string // of the checkout
	out      *output
	children *spawner
}

// run returns when ctx ends or something fails, with everything stopped.
func (d *demo) run(ctx context.Context) (err error) {
	// Before anything slow.
	if err := d.checkAddr(ctx); err != nil {
		return err
	}

	d.out.say("building bin/worker and bin/api")
	build := command{name: "build", path: "go", dir: d.root, env: []string{"CGO_ENABLED=0"},
		args: []string{"build", "-buildvcs=false", "-o", filepath.Join(d.root, "bin") + string(filepath.Separator), "./cmd/worker", "./cmd/api"}}
	if err := d.children.run(ctx, build); err != nil {
		return err
	}

	databaseURL := d.DatabaseURL
	if databaseURL == "" {
		d.out.say("starting Postgres in " + d.Dir)
		server, err := localpg.Start(ctx, localpg.Config{Dir: d.Dir, Log: d.out.logger("postgres")})
		if err != nil {
			return err
		}
		defer func() {
			d.out.say("stopping Postgres")
			err = errors.Join(err, server.Stop())
		}()
		databaseURL = server.URL()
	}
	// After Postgres, which makes the folder so that its account can reach it.
	secret, err := jwtSecret(d.Dir)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	host, err := d.prepareHost(ctx, pool)
	if err != nil {
		return err
	}

	metricsAddr, err := freeMetricsAddr(ctx, orDefault(os.Getenv("DAYBOOK_API_METRICS_ADDR"), "127.0.0.1:9464"))
	if err != nil {
		return err
	}
	env := []string{
		"DATABASE_URL=" + databaseURL,
		"JWT_SECRET=" + secret.value,
		"DAYBOOK_API_ADDR=" + d.APIAddr,
		"DAYBOOK_API_METRICS_ADDR=" + metricsAddr,
	}
	worker := command{name: "worker", path: filepath.Join(d.root, "bin", "worker"), dir: d.root, env: env}
	api := command{name: "api", path: filepath.Join(d.root, "bin", "api"), dir: d.root, env: append(env,
		// A demo may have any secret, and its runtimes may be changed.
		"DAYBOOK_DEMO=true", "DAYBOOK_API_ALLOW_WRITES=true", "DAYBOOK_API_WRITE_DATABASE_URL="+databaseURL)}
	for _, args := range [][]string{{"migrate", "up"}, {"backfill", "--if-needed"}} {
		d.out.say("worker " + strings.Join(args, " "))
		if err := d.children.run(ctx, worker.with("worker", args...)); err != nil {
			return err
		}
	}
	token, err := d.children.outputOf(ctx, api.with("token", "token", "--user", host.Owner))
	if err != nil {
		return err
	}

	// From here on things run side by side. They stop in the opposite order of this list.
	var running group
	defer func() {
		err = errors.Join(err, running.stop())
	}()
	var workerMetrics []string
	for i := range 2 {
		name := fmt.Sprintf("worker-%d", i+1)
		addr, err := freeMetricsAddr(ctx, fmt.Sprintf("127.0.0.1:%d", 9465+i))
		if err != nil {
			return err
		}
		workerMetrics = append(workerMetrics, addr)
		cmd := worker.with(name, "run", "--metrics-addr="+addr)
		running.start("workers", func(ctx context.Context) error { return d.keepWorker(ctx, cmd) })
	}
	running.start("api", func(ctx context.Context) error { return d.serve(ctx, api.with("api", "serve")) })
	if d.Rate > 0 {
		running.start("live writer", func(ctx context.Context) error {
			return demohost.WriteLive(ctx, pool, demohost.Live{Rate: d.Rate, Log: d.out.logger("live")})
		})
	}

	ready, cancel := context.WithCancel(ctx)
	defer cancel()
	running.onFailure(cancel)
	n := notice{
		base: baseURL(d.APIAddr), token: token, host: host, metricsAddr: metricsAddr, workerMetrics: workerMetrics, secretFile: secret.file,
		databaseURL: databaseURL, givenURL: d.DatabaseURL != "",
	}
	if err := waitListening(ready, d.APIAddr); err == nil {
		d.out.print(n.String())
		size, err := n.check(ready)
		switch {
		case err == nil:
			d.out.say(fmt.Sprintf("ready: the first curl line answers, with %d bytes", size))
		case ready.Err() == nil:
			return err
		}
	} else if ready.Err() == nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-running.failed:
		d.out.say(err.Error() + "; stopping the rest")
		return err
	}
}

// prepareHost makes the demo host and its history, unless they are there.
func (d *demo) prepareHost(ctx context.Context, pool *pgxpool.Pool) (demohost.Host, error) {
	if err := demohost.CreateHost(ctx, pool); err != nil {
		return demohost.Host{}, err
	}
	filled, err := demohost.Filled(ctx, pool)
	if err != nil {
		return demohost.Host{}, err
	}
	if filled {
		d.out.say("going on with the demo host that is there")
	} else {
		d.out.say(fmt.Sprintf("making a demo host with %d tasks", d.Tasks))
		begin := time.Now()
		if err := demohost.Fill(ctx, pool, demohost.Size{Tasks: d.Tasks}); err != nil {
			return demohost.Host{}, err
		}
		d.out.say(fmt.Sprintf("made it in %.1f s", time.Since(begin).Seconds()))
	}
	host, err := demohost.Describe(ctx, pool)
	if err != nil {
		return demohost.Host{}, err
	}
	if host.Owner == "" || len(host.Runtimes) == 0 {
		return demohost.Host{}, errors.New("the demo host has lost its owner or its runtimes; make clean removes it, the next run makes another")
	}
	return host, nil
}

// keepWorker runs a worker until ctx ends. A worker that somebody killed or stopped from outside comes back after a
// pause; one that fails by itself is an error.
func (d *demo) keepWorker(ctx context.Context, cmd command) error {
	for {
		c, err := d.children.start(cmd)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return c.stop(stopBound)
		case <-c.done:
		}
		if c.err != nil && !c.signaled() {
			return fmt.Errorf("%s ended by itself: %w", cmd.name, c.err)
		}
		d.out.say(fmt.Sprintf("%s has ended (%s); it starts again in %s", cmd.name, c.cmd.ProcessState, restartPause))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(restartPause):
		}
	}
}

// serve runs the api until ctx ends.
func (d *demo) serve(ctx context.Context, cmd command) error {
	c, err := d.children.start(cmd)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return c.stop(stopBound)
	case <-c.done:
		return fmt.Errorf("%s ended by itself: %s", cmd.name, c.cmd.ProcessState)
	}
}

func openPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("read DATABASE_URL: %w", err)
	}
	cfg.MaxConns = 2
	pool, err := postgres.Open(ctx, cfg, nil)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// checkAddr reports early and clearly that the api could not listen.
func (d *demo) checkAddr(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.APIAddr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("something else listens on %s: choose another address with --api-addr 127.0.0.1:8081 or DAYBOOK_API_ADDR=127.0.0.1:8081",
			d.APIAddr)
	case err != nil:
		return fmt.Errorf("listen on --api-addr %s: %w", d.APIAddr, err)
	}
	return l.Close()
}

// waitListening returns once something accepts connections on addr.
func waitListening(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "tcp", dialAddr(addr))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the api does not listen on %s after %s: %w", addr, readyBound, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// freeMetricsAddr is the usual address of some metrics, or another where it is taken: metrics are no reason not to run.
func freeMetricsAddr(ctx context.Context, usual string) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", usual)
	if err != nil {
		l, err = lc.Listen(ctx, "tcp", "127.0.0.1:0")
	}
	if err != nil {
		return "", fmt.Errorf("find an address for metrics: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func orDefault(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"daybook/internal/build"
	"daybook/internal/server"
	"daybook/jobs"
)

const (
	defaultMetricsAddr = "127.0.0.1:9465"
	riverUIPath        = "/riverui"
	// adminTimeout is the longest that a request of the admin listener takes.
	adminTimeout = 5 * time.Second
)

// listenAdmin takes the address of the admin listener. Several workers may run on one machine without a thought of it, so where nobody asked
// for an address and the default is taken, there is none: metrics must not keep a worker from working.
func (c *runCmd) listenAdmin(logger *slog.Logger) (net.Listener, error) {
	addr := c.MetricsAddr
	if addr == "" {
		addr = defaultMetricsAddr
	}
	listener, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		logger.Info("listening", slog.String("server", "metrics"), slog.String("addr", listener.Addr().String()))
		return listener, nil
	case c.MetricsAddr == "" && !c.RiverUI:
		logger.Warn("no metrics: their default address is taken; choose another with --metrics-addr or DAYBOOK_WORKER_METRICS_ADDR",
			slog.String("addr", addr))
		return nil, nil
	default:
		return nil, fmt.Errorf("%w; choose another address with --metrics-addr or DAYBOOK_WORKER_METRICS_ADDR", err)
	}
}

// admin is what the admin listener serves: from the beginning that the process is alive, and all else once there is a fleet.
type admin struct {
	*http.ServeMux
	registry *prometheus.Registry
	fleet    atomic.Pointer[jobs.Fleet]
	riverUI  atomic.Pointer[http.Handler]
}

func (c *runCmd) newAdmin() *admin {
	a := &admin{ServeMux: http.NewServeMux(), registry: prometheus.NewRegistry()}
	a.registry.MustRegister(build.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	a.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	a.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if c.RiverUI {
		a.HandleFunc(riverUIPath+"/", func(w http.ResponseWriter, r *http.Request) {
			ui := a.riverUI.Load()
			if ui == nil {
				http.Error(w, errNotStarted.Error(), http.StatusServiceUnavailable)
				return
			}
			(*ui).ServeHTTP(w, r)
		})
	}
	return a
}

var errNotStarted = errors.New("not started yet; the log says what it waits for")

func (a *admin) ready() error {
	fleet := a.fleet.Load()
	if fleet == nil {
		return errNotStarted
	}
	return fleet.Ready()
}

// show serves a fleet that has started. River UI may be nil.
func (a *admin) show(fleet *jobs.Fleet, riverUI http.Handler) {
	a.registry.MustRegister(fleet)
	if riverUI != nil {
		a.riverUI.Store(&riverUI)
	}
	a.fleet.Store(fleet)
}

// serveAdmin serves until ctx is done.
func serveAdmin(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) {
	if err := server.Serve(ctx, listener, handler, adminTimeout, logger); err != nil {
		logger.Error("metrics are no longer served", slog.Any("error", err))
	}
}

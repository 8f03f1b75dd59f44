package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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

// adminHandler is what the admin listener serves. River UI asks the database until ctx is done.
func (c *runCmd) adminHandler(ctx context.Context, fleet *jobs.Fleet) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(fleet, build.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := fleet.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if c.RiverUI {
		ui, err := fleet.UI(ctx, riverUIPath)
		if err != nil {
			return nil, err
		}
		mux.Handle(riverUIPath+"/", ui)
	}
	return mux, nil
}

// serveAdmin serves until ctx is done.
func serveAdmin(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) {
	if err := server.Serve(ctx, listener, handler, adminTimeout, logger); err != nil {
		logger.Error("metrics are no longer served", slog.Any("error", err))
	}
}

package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"daybook/internal/build"
	"daybook/internal/state"
	"daybook/queries"
)

const (
	// scrapeTimeout bounds what a scrape asks the database.
	scrapeTimeout = 2 * time.Second
	// maxCountedEntries bounds the count of dirty entries, so that a scrape is cheap however long the queue is.
	maxCountedEntries = 10_000
)

var (
	descUp = prometheus.NewDesc("daybook_rollup_up",
		"1 if the database could be asked for the state of the rollups at this scrape, else 0.", nil, nil)
	descLag = prometheus.NewDesc("daybook_rollup_lag_seconds",
		"Age of the oldest committed change that no rollup counts yet, by the database's clock. Absent if the database cannot tell, and while triggers are off or a backfill is due.", nil, nil)
	descEntries = prometheus.NewDesc("daybook_dirty_entries",
		"Changes waiting to be counted. Counted up to 10000.", nil, nil)
	descRebuilds = prometheus.NewDesc("daybook_rebuilds_pending",
		"Runtimes whose rebuild is requested and not done.", nil, nil)
	descOldestRebuild = prometheus.NewDesc("daybook_rebuild_oldest_seconds",
		"Age of the oldest request for a rebuild; 0 if there is none.", nil, nil)
	descQuarantined = prometheus.NewDesc("daybook_quarantined_tasks",
		"Tasks that cannot be counted as they are.", nil, nil)
	descRejectedZones = prometheus.NewDesc("daybook_zones_rejected",
		"Runtimes whose time zone Postgres does not know; they count in UTC.", nil, nil)
	descRefused = prometheus.NewDesc("daybook_refused_changes_total",
		"Changed tasks that have usage of days that are closed; that usage stays as it was counted.", nil, nil)
	descAttached = prometheus.NewDesc("daybook_triggers_attached",
		"1 if every trigger is on the host's tables, else 0: changes are not counted.", nil, nil)
	descBackfilled = prometheus.NewDesc("daybook_backfill_complete",
		"1 if a backfill has been completed since the triggers were put on, else 0: old usage is missing.", nil, nil)
	descDrift = prometheus.NewDesc("daybook_drift_differences",
		"Differences from the source that the last verifications found, by table.", []string{"table"}, nil)
	descDriftFound = prometheus.NewDesc("daybook_drift_found_total",
		"Differences from the source that verifications have found so far, by table. What is found again counts again.", []string{"table"}, nil)
	descVerified = prometheus.NewDesc("daybook_verified_runtimes",
		"Runtimes that have been verified.", nil, nil)
	descVerifiedAge = prometheus.NewDesc("daybook_verify_pass_age_seconds",
		"Age of the last pass of verifications over everything. Absent before the first one is complete.", nil, nil)
	descWorkers = prometheus.NewDesc("daybook_workers",
		"Worker processes whose sign of life is not late.", nil, nil)
	descHolder = prometheus.NewDesc("daybook_cleanup_held_seconds",
		"Age of the oldest transaction that keeps Postgres from cleaning up; 0 if there is none. Absent if it cannot be seen: see worker status.", nil, nil)
	descHeldBack = prometheus.NewDesc("daybook_cleanup_held_transactions",
		"Transactions that have begun since the oldest one for which Postgres keeps old versions of rows: for a session, a prepared transaction, a standby or a replication slot. Absent if it cannot be seen.", nil, nil)
)

// driftTables are the tables in which a verification finds differences.
var driftTables = []string{
	"runtime_rollup", "task_activity_by_hour", "task_fact", "task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour",
	"task_usage_fact", "workspace_run_time_daily", "workspace_usage_daily", "workspace_usage_daily_by_agent",
}

// RollupCollector reads the state of the rollups from the database at each scrape, so that workers that are dead cannot hide it.
// It says so when the database cannot be asked, rather than repeat an old value.
type RollupCollector struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
}

// NewRollupCollector returns a collector that reads through pool.
func NewRollupCollector(pool *pgxpool.Pool, logger *slog.Logger) *RollupCollector {
	return &RollupCollector{pool: pool, logger: logger}
}

// Describe sends the descriptions of all metrics.
func (c *RollupCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descUp, descLag, descEntries, descRebuilds, descOldestRebuild, descQuarantined, descRejectedZones, descRefused, descAttached, descBackfilled,
		descDrift, descDriftFound, descVerified, descVerifiedAge, descWorkers, descHolder, descHeldBack,
	} {
		ch <- d
	}
}

// Collect asks the database.
func (c *RollupCollector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	now, err := state.Read(ctx, queries.New(c.pool), maxCountedEntries)
	if err != nil {
		c.logger.Error("scrape of the rollups failed", slog.Any("error", err))
		send(descUp, 0)
		return
	}
	send(descUp, 1)
	if lag, known := now.LagSeconds(); known {
		send(descLag, lag)
	}
	send(descEntries, float64(now.Status.DirtyEntries))
	send(descRebuilds, float64(now.Status.Rebuilds))
	send(descOldestRebuild, now.Status.OldestRebuildSeconds)
	send(descQuarantined, float64(now.Status.Quarantined))
	send(descRejectedZones, float64(now.Status.RejectedZones))
	ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(now.Status.RefusedChanges))
	send(descAttached, gauge(now.Coverage.Attached))
	send(descBackfilled, gauge(now.Coverage.Complete))
	send(descVerified, float64(now.Verified.Runtimes))
	if now.Verified.Complete {
		send(descVerifiedAge, now.Verified.OldestSeconds)
	}
	send(descWorkers, float64(now.Workers))
	if now.Cleanup.Visible {
		send(descHolder, now.Cleanup.Seconds)
		send(descHeldBack, float64(now.Cleanup.Transactions))
	}
	differences := make(map[string]int64)
	for _, d := range now.Drift {
		differences[d.Rollup] = d.Differences
	}
	found := make(map[string]int64)
	for _, d := range now.DriftFound {
		found[d.Rollup] = d.Differences
	}
	for _, table := range driftTables {
		ch <- prometheus.MustNewConstMetric(descDrift, prometheus.GaugeValue, float64(differences[table]), table)
		ch <- prometheus.MustNewConstMetric(descDriftFound, prometheus.CounterValue, float64(found[table]), table)
	}
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// requestMetrics are what the API counts itself.
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newRequestMetrics() *requestMetrics {
	return &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daybook_http_requests_total", Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "daybook_http_request_duration_seconds", Help: "Time to answer requests, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route"}),
	}
}

// observe counts a request. Anybody may send any method and path, so those that are not routes share one label.
func (m *requestMetrics) observe(method, route string, status int, duration time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPatch, http.MethodDelete:
	default:
		method = "other"
	}
	if route == "" || strings.HasSuffix(route, "/*") && route != "/docs/*" {
		route = "none"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(duration.Seconds())
}

var (
	descPoolConns = prometheus.NewDesc("daybook_pool_connections",
		"Connections of the api's pool to the database, by state.", []string{"state"}, nil)
	descPoolMax = prometheus.NewDesc("daybook_pool_max_connections",
		"Connections that the api's pool may have.", nil, nil)
	descPoolAcquires = prometheus.NewDesc("daybook_pool_acquires_total",
		"Connections taken from the api's pool.", nil, nil)
	descPoolWaits = prometheus.NewDesc("daybook_pool_empty_acquires_total",
		"Connections taken from the api's pool that had to be waited for.", nil, nil)
	descPoolWaitTime = prometheus.NewDesc("daybook_pool_acquire_wait_seconds_total",
		"Time that was spent waiting for connections of the api's pool.", nil, nil)
)

// poolCollector shows the state of the pool at each scrape.
type poolCollector struct{ pool *pgxpool.Pool }

func (poolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descPoolConns, descPoolMax, descPoolAcquires, descPoolWaits, descPoolWaitTime} {
		ch <- d
	}
}

func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	stat := c.pool.Stat()
	for state, n := range map[string]int32{
		"idle": stat.IdleConns(), "in_use": stat.AcquiredConns(), "connecting": stat.ConstructingConns(),
	} {
		ch <- prometheus.MustNewConstMetric(descPoolConns, prometheus.GaugeValue, float64(n), state)
	}
	ch <- prometheus.MustNewConstMetric(descPoolMax, prometheus.GaugeValue, float64(stat.MaxConns()))
	ch <- prometheus.MustNewConstMetric(descPoolAcquires, prometheus.CounterValue, float64(stat.AcquireCount()))
	ch <- prometheus.MustNewConstMetric(descPoolWaits, prometheus.CounterValue, float64(stat.EmptyAcquireCount()))
	ch <- prometheus.MustNewConstMetric(descPoolWaitTime, prometheus.CounterValue, stat.EmptyAcquireWaitTime().Seconds())
}

// Metrics serves /metrics, in Prometheus's format, /healthz and /readyz. It is for a listener of its own, which clients do not reach.
func (s *API) Metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewRollupCollector(s.config.Pool, s.config.Logger), poolCollector{s.config.Pool},
		s.metrics.requests, s.metrics.duration,
		build.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /readyz", s.ready)
	return s.begin(mux)
}

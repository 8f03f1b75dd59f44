package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
		"Age of the oldest committed change that no rollup counts yet, by the database's clock. Absent if the database cannot be asked.", nil, nil)
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
	descAttached = prometheus.NewDesc("daybook_triggers_attached",
		"1 if every trigger is on the host's tables, else 0: changes are not counted.", nil, nil)
	descBackfilled = prometheus.NewDesc("daybook_backfill_complete",
		"1 if a backfill has been completed since the triggers were put on, else 0: old usage is missing.", nil, nil)
)

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
		descUp, descLag, descEntries, descRebuilds, descOldestRebuild, descQuarantined, descRejectedZones, descAttached, descBackfilled,
	} {
		ch <- d
	}
}

// Collect asks the database.
func (c *RollupCollector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	q := queries.New(c.pool)
	lag, err := q.GetLag(ctx)
	var status queries.GetStatusRow
	if err == nil {
		status, err = q.GetStatus(ctx, maxCountedEntries)
	}
	var coverage queries.GetCoverageRow
	if err == nil {
		coverage, err = q.GetCoverage(ctx)
	}
	if err != nil {
		c.logger.Error("scrape of the rollups failed", slog.Any("error", err))
		send(descUp, 0)
		return
	}
	send(descUp, 1)
	send(descLag, lag)
	send(descEntries, float64(status.DirtyEntries))
	send(descRebuilds, float64(status.Rebuilds))
	send(descOldestRebuild, status.OldestRebuildSeconds)
	send(descQuarantined, float64(status.Quarantined))
	send(descRejectedZones, float64(status.RejectedZones))
	send(descAttached, gauge(coverage.Attached))
	send(descBackfilled, gauge(coverage.Complete))
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// MetricsHandler serves /metrics, in Prometheus's format, and /healthz. It is for a listener of its own, which clients do not reach.
func MetricsHandler(pool *pgxpool.Pool, logger *slog.Logger) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewRollupCollector(pool, logger),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewBuildInfoCollector())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return mux
}

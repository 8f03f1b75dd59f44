package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"

	"daybook/queries"
	"daybook/rollup"
)

// scrapeTimeout bounds what a scrape asks the database.
const scrapeTimeout = 2 * time.Second

// Work that succeeds or fails as a whole, the values of a label.
const (
	workTick    = "tick"
	workDrain   = "drain"
	workRebuild = "rebuild"
	workVerify  = "verify"
)

// metrics are what one process counts of its own work. What is true of the database, such as the lag, is for the api to say: it
// must not depend on workers that may be dead.
type metrics struct {
	entries, tasks, quarantines, refused prometheus.Counter
	freshness, batches, rebuilds         prometheus.Histogram
	failures                             *prometheus.CounterVec
	succeeded                            *prometheus.GaugeVec
	jobs                                 *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daybook_drained_entries_total", Help: "Dirty entries that this worker counted and deleted.",
		}),
		tasks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daybook_drained_tasks_total", Help: "Tasks that this worker counted. A task with several entries in a batch is counted once.",
		}),
		quarantines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daybook_quarantines_total", Help: "Tasks that this worker put into quarantine.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "daybook_drain_refused_tasks_total", Help: "Changed tasks with usage of closed days that this worker met.",
		}),
		freshness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "daybook_freshness_seconds", Help: "Age of each dirty entry when it was counted, by the database's clock.",
			Buckets: []float64{.1, .25, .5, .75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 600, 3600},
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "daybook_drain_batch_duration_seconds", Help: "Time of each drain transaction that counted entries, by the database's clock.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		rebuilds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "daybook_rebuild_duration_seconds", Help: "Time of each rebuild of a runtime.",
			Buckets: []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daybook_work_failures_total", Help: "Work that ended with an error and is tried again, by kind of work.",
		}, []string{"work"}),
		succeeded: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "daybook_last_success_timestamp_seconds", Help: "When this worker last succeeded, by kind of work, by its own clock. 0 before the first time.",
		}, []string{"work"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "daybook_river_jobs_total", Help: "Jobs of River that this worker ended, by kind and outcome.",
		}, []string{"kind", "outcome"}),
	}
	for _, work := range []string{workTick, workDrain, workRebuild, workVerify} {
		m.failures.WithLabelValues(work)
		m.succeeded.WithLabelValues(work)
	}
	return m
}

// ended notes that a piece of work has ended. One that was stopped has neither succeeded nor failed.
func (m *metrics) ended(work string, stopped bool, err error) {
	switch {
	case err == nil:
		m.succeeded.WithLabelValues(work).SetToCurrentTime()
	case !stopped:
		m.failures.WithLabelValues(work).Inc()
	}
}

func (m *metrics) drained(r rollup.DrainResult) {
	m.entries.Add(float64(r.Entries))
	m.tasks.Add(float64(r.Tasks))
	m.quarantines.Add(float64(len(r.Quarantined)))
	m.refused.Add(float64(len(r.Refused)))
	for _, age := range r.Ages {
		m.freshness.Observe(age)
	}
	for _, seconds := range r.BatchSeconds {
		m.batches.Observe(seconds)
	}
}

// outcomes are the ends of a job that River tells of.
var outcomes = map[river.EventKind]string{
	river.EventKindJobCompleted: "completed", river.EventKindJobFailed: "failed", river.EventKindJobCancelled: "cancelled",
	river.EventKindJobSnoozed: "snoozed",
}

// countJobs counts ends of jobs until River closes the channel.
func (m *metrics) countJobs(events <-chan *river.Event) {
	for event := range events {
		m.jobs.WithLabelValues(event.Job.Kind, outcomes[event.Kind]).Inc()
	}
}

// Describe sends the descriptions of the metrics of this process's work and of River's queues, for prometheus.Collector.
func (f *Fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range f.collectors() {
		c.Describe(ch)
	}
}

// Collect sends the metrics. It asks the database for the depths of River's queues, for 2 s at most.
func (f *Fleet) Collect(ch chan<- prometheus.Metric) {
	for _, c := range f.collectors() {
		c.Collect(ch)
	}
}

func (f *Fleet) collectors() []prometheus.Collector {
	m := f.metrics
	return []prometheus.Collector{
		m.entries, m.tasks, m.quarantines, m.refused, m.freshness, m.batches, m.rebuilds, m.failures, m.succeeded, m.jobs,
		queueCollector{f.config.Pool, f.config.Logger},
	}
}

var (
	descQueuesUp = prometheus.NewDesc("daybook_river_up",
		"1 if the database could be asked for River's queues at this scrape, else 0.", nil, nil)
	descQueues = prometheus.NewDesc("daybook_river_queue_jobs",
		"Jobs of River that are not done, of all workers together, by queue and state.", []string{"queue", "state"}, nil)
)

// queueCollector reads the depths of River's queues at each scrape.
type queueCollector struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
}

func (queueCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descQueuesUp
	ch <- descQueues
}

func (c queueCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	depths, err := queries.New(c.pool).ListQueueDepths(ctx)
	if err != nil {
		c.logger.Error("scrape of the queues failed", slog.Any("error", err))
		ch <- prometheus.MustNewConstMetric(descQueuesUp, prometheus.GaugeValue, 0)
		return
	}
	ch <- prometheus.MustNewConstMetric(descQueuesUp, prometheus.GaugeValue, 1)
	type key struct{ queue, state string }
	jobs := make(map[key]int64)
	for _, queue := range []string{queueDrain, queueRebuild, queueVerify} {
		for _, state := range unfinished {
			jobs[key{queue, string(state)}] = 0
		}
	}
	for _, d := range depths {
		jobs[key{d.Queue, d.State}] = d.Jobs
	}
	for k, n := range jobs {
		ch <- prometheus.MustNewConstMetric(descQueues, prometheus.GaugeValue, float64(n), k.queue, k.state)
	}
}

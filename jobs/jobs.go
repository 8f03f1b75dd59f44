// Package jobs says what River runs, where and how often: which kinds of job there are, in which queues, how they are made
// unique, and when they are tried again. The work itself is in package rollup.
//
// Nothing here rests on River's uniqueness or its leader for exclusion or freshness: a killed worker leaves its jobs
// running in River's eyes for a long time. Exclusion comes from the advisory locks in rollup. Freshness comes from
// every process ticking by itself, each tick with jobs of its own.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"daybook/migrations"
	"daybook/queries"
	"daybook/rollup"
)

// The queues are bulkheads: a burst of rebuilds cannot take the places of drains.
const (
	queueDrain   = "drain"
	queueRebuild = "rebuild"
	queueVerify  = "verify"
)

const (
	// drainTimeout ends a drain that hangs. The next tick starts another.
	drainTimeout = 30 * time.Second
	// drainBudget is after how long a drain begins no further batch. The rest is for the next tick, so that no shard keeps a
	// place for itself and a stop is quick.
	drainBudget = 5 * time.Second
	// rebuildTimeout is generous: a rebuild takes some seconds for a million usage rows.
	rebuildTimeout = time.Hour
	// rebuildRetry is how often a rebuild that is still requested gets another job. If one is at work the second ends at once.
	rebuildRetry = 5 * time.Second
	// maxRebuilds bounds the rebuild jobs of one tick.
	maxRebuilds = 100
	// searchEvery is the time between two searches for buckets in a zone that is no longer the host's, and for a verification that is due.
	searchEvery = 15 * time.Second
	// tickTimeout ends a tick that hangs, on a worker that stands still between the insert of the same jobs and its commit, say.
	tickTimeout = 3 * time.Second
	// searchTimeout ends a search for outdated buckets that waits for a lock on the host's table. The next one finds them.
	searchTimeout = 500 * time.Millisecond
	// maxPassedOver is how many verifications a long queue keeps away, one after the other: those of ten minutes.
	maxPassedOver = 40
	// maxMisses is after how many failed ticks in a row a process is not ready. It begins with as many.
	maxMisses = 3
	// pooledPoll is the time between two looks for drains where nobody is notified of them.
	pooledPoll = 200 * time.Millisecond
	// slowPoll is the time between two looks for jobs that can wait, besides being notified of them.
	slowPoll = 5 * time.Second
	// softStop is how long a stop waits for running jobs before it cancels them. A cancelled job is rolled back whole.
	softStop = 8 * time.Second
)

// Config configures a Fleet.
type Config struct {
	// Pool is where River's tables and the rollups are. It must allow Connections connections at least.
	Pool *pgxpool.Pool
	// Logger gets what River and the jobs have to say. Required.
	Logger *slog.Logger
	// Tick is the time between two looks at the queue while it is empty; while it is not, it is half of that. Default 1 s.
	Tick time.Duration
	// DrainWorkers is the number of drains that this process does at once, each of one or more shards. Default 4.
	DrainWorkers int
	// RebuildWorkers is the number of runtimes that this process rebuilds at once. Default 2.
	RebuildWorkers int
	// Pooled says that Pool goes through a connection pooler in transaction mode: nobody is notified of jobs, so they are looked for.
	Pooled bool
	// VerifyPeriod is the time in which the workers together verify everything once. Default 24 h.
	VerifyPeriod time.Duration
}

// Connections is the size of the pool that the configuration needs: one for each job that may run, one of them a verification, and some for River's
// listener, its completer and fetchers, and the tick.
func (c Config) Connections() int32 {
	c = c.withDefaults()
	return int32(c.DrainWorkers + c.RebuildWorkers + 7) //nolint:gosec // Small numbers.
}

func (c Config) withDefaults() Config {
	if c.Tick <= 0 {
		c.Tick = time.Second
	}
	if c.DrainWorkers <= 0 {
		c.DrainWorkers = 4
	}
	if c.RebuildWorkers <= 0 {
		c.RebuildWorkers = 2
	}
	if c.VerifyPeriod <= 0 {
		c.VerifyPeriod = 24 * time.Hour
	}
	return c
}

// drainPoll is how often drains are looked for besides being notified of them.
func (c Config) drainPoll() time.Duration {
	if c.Pooled {
		return pooledPoll
	}
	return river.FetchPollIntervalDefault
}

// slowPoll is how often jobs that can wait are looked for besides being notified of them.
func (c Config) slowPoll() time.Duration {
	if c.Pooled {
		return river.FetchPollIntervalDefault
	}
	return slowPoll
}

// Fleet is one process's share of the work. Any number of them may run on one database.
type Fleet struct {
	config Config
	client *river.Client[pgx.Tx]

	metrics *metrics
	// misses counts the ticks that failed since the last one that succeeded.
	misses atomic.Int64
	// stopping is done when the fleet is to stop: drains begin no further batch.
	stopping context.Context
	stop     context.CancelFunc
	ticking  sync.WaitGroup
	// saidBlocked is set for a while after it was logged that a drain was blocked.
	saidBlocked atomic.Bool
	// passedOver counts the verifications that were not asked for because the queue was long.
	passedOver int
	// zoneRevision is what the last tick saw, nil before the first.
	zoneRevision *int64
}

// New returns a fleet that is not started yet.
func New(config Config) (*Fleet, error) {
	if config.Pool == nil || config.Logger == nil {
		return nil, errors.New("jobs: Config needs Pool and Logger")
	}
	f := &Fleet{config: config.withDefaults(), metrics: newMetrics()}
	f.misses.Store(maxMisses)
	f.stopping, f.stop = context.WithCancel(context.Background())
	workers := river.NewWorkers()
	river.AddWorker(workers, &drainWorker{fleet: f})
	river.AddWorker(workers, &expandWorker{fleet: f})
	river.AddWorker(workers, &rebuildWorker{fleet: f})
	river.AddWorker(workers, &verifyWorker{fleet: f})
	river.AddWorker(workers, &zonesWorker{fleet: f})
	client, err := river.NewClient(riverpgxv5.New(config.Pool), &river.Config{
		Schema:  migrations.Schema,
		Logger:  slog.New(riverHandler{config.Logger.Handler()}),
		Workers: workers,
		Queues: map[string]river.QueueConfig{
			queueDrain:   {MaxWorkers: f.config.DrainWorkers, FetchPollInterval: f.config.drainPoll()},
			queueRebuild: {MaxWorkers: f.config.RebuildWorkers, FetchPollInterval: f.config.slowPoll()},
			queueVerify:  {MaxWorkers: 1, FetchPollInterval: f.config.slowPoll()},
		},
		// Every tick adds rows; none is of use for long.
		CompletedJobRetentionPeriod: time.Minute,
		CancelledJobRetentionPeriod: time.Hour,
		DiscardedJobRetentionPeriod: time.Hour,
		SoftStopTimeout:             softStop,
		PollOnly:                    f.config.Pooled,
		Hooks:                       []rivertype.Hook{&dueAtOnce{}},
		RescueStuckJobsAfter:        rebuildTimeout + time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("make river client: %w", err)
	}
	f.client = client
	return f, nil
}

// Start begins to tick and to work. It returns at once; Stop ends the work.
func (f *Fleet) Start(ctx context.Context) error {
	events, _ := f.client.Subscribe(slices.Collect(maps.Keys(outcomes))...)
	if err := f.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start river: %w", err)
	}
	go f.metrics.countJobs(events) // River closes the channel when it has stopped.
	f.ticking.Go(f.tickUntilStopped)
	return nil
}

// Ready returns an error unless a tick has succeeded in the last ticks, that is, unless this process finds work and can ask for it.
func (f *Fleet) Ready() error {
	if misses := f.misses.Load(); misses >= maxMisses {
		return fmt.Errorf("the last %d looks at the queue failed", misses)
	}
	return nil
}

// Stop ends the tick, lets running jobs finish for 8 s at most, and cancels those that are left; what they did is rolled back and
// done again by another worker. ctx bounds the whole.
func (f *Fleet) Stop(ctx context.Context) error {
	f.stop()
	f.ticking.Wait()
	if err := f.client.Stop(ctx); err != nil {
		return fmt.Errorf("stop river: %w", err)
	}
	return nil
}

func (f *Fleet) tickUntilStopped() {
	ticker := time.NewTicker(f.config.Tick)
	defer ticker.Stop()
	searches := time.NewTicker(searchEvery)
	defer searches.Stop()
	for search := true; ; {
		waiting, err := f.tick(f.stopping, search)
		f.metrics.ended(workTick, f.stopping.Err() != nil, err)
		switch {
		case err == nil:
			f.misses.Store(0)
		case f.stopping.Err() == nil:
			f.misses.Add(1)
			f.config.Logger.Error("tick failed; trying again", slog.Any("error", err))
		}
		if waiting {
			ticker.Reset(f.config.Tick / 2)
		} else {
			ticker.Reset(f.config.Tick)
		}
		select {
		case <-f.stopping.Done():
			return
		case <-ticker.C:
		}
		select {
		case <-searches.C:
			search = true
		default:
			search = false
		}
	}
}

// tick looks at what there is to do and inserts a job for each piece of it. It tells whether to look again sooner: there is something in the queue, and
// it is not long, for then drains are at work for longer than a tick. Drains come first: they must not wait for anything that waits for a table of the
// host.
func (f *Fleet) tick(ctx context.Context, search bool) (waiting bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	q := queries.New(f.config.Pool)
	around, err := q.LookAround(ctx)
	if err != nil {
		return false, fmt.Errorf("look around: %w", err)
	}
	f.renewConnections(around.ZoneRevision)
	jobs, waiting, err := f.drainJobs(ctx)
	if err != nil {
		return false, err
	}
	isLong := len(jobs) > 1
	waiting = waiting && !isLong
	if around.HasScopes {
		jobs = append(jobs, river.InsertManyParams{Args: ExpandArgs{Tick: around.Tick}})
	}
	rebuilds, err := q.ListRequestedRebuilds(ctx, queries.ListRequestedRebuildsParams{
		RetrySeconds: int32(rebuildRetry.Seconds()), MaxRuntimes: maxRebuilds,
	})
	if err != nil {
		return waiting, fmt.Errorf("list requested rebuilds: %w", err)
	}
	for _, r := range rebuilds {
		jobs = append(jobs, river.InsertManyParams{
			Args: RebuildArgs{RuntimeID: r.RuntimeID.String(), Revision: r.Revision, Attempt: r.Attempt},
		})
	}
	if search {
		// What waits in a long queue could not be compared anyway. But no queue keeps verifications away for ever.
		if f.passedOver++; !isLong || f.passedOver > maxPassedOver {
			f.passedOver = 0
			jobs = append(jobs, river.InsertManyParams{Args: VerifyArgs{Minute: around.Tick / int64(verifyEvery.Seconds())}})
		}
		due, err := f.zoneCheckDue(ctx)
		if err != nil {
			return waiting, err
		}
		if due {
			jobs = append(jobs, river.InsertManyParams{Args: ZonesArgs{Tick: around.Tick}})
		}
	}
	if len(jobs) > 0 {
		if _, err := f.client.InsertMany(ctx, jobs); err != nil {
			return waiting, fmt.Errorf("insert jobs: %w", err)
		}
	}
	err = q.BeatHeart(ctx, queries.BeatHeartParams{
		WorkerID: f.client.ID(), PeriodSeconds: f.config.Tick.Seconds(), VerifyPeriodSeconds: f.config.VerifyPeriod.Seconds(),
	})
	if err != nil {
		return waiting, fmt.Errorf("beat heart: %w", err)
	}
	if search {
		if err := q.DeleteOldHeartbeats(ctx); err != nil {
			return waiting, fmt.Errorf("delete old heartbeats: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, searchTimeout)
		defer cancel()
		if _, err := q.RequestOutdatedRebuilds(ctx); err != nil {
			return waiting, fmt.Errorf("request outdated rebuilds: %w", err)
		}
	}
	return waiting, nil
}

// insertOpts are those of every kind: tried once, since the next tick is the retry; and unique by args, so that the ticks of several
// processes in one second make one job. A job of a tick that has been done is not done again, if states are all of them.
func insertOpts(queue string, states []rivertype.JobState) river.InsertOpts {
	return river.InsertOpts{
		Queue:       queue,
		MaxAttempts: 1,
		UniqueOpts:  river.UniqueOpts{ByArgs: true, ByState: states},
	}
}

// unfinished are the states of a job that is still to be done. Freshness must not depend on jobs that are done: where the clock is set
// back, its seconds come again.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// reportZone tells an operator about a zone that counts as UTC.
func (f *Fleet) reportZone(z rollup.RejectedZone) {
	f.config.Logger.Warn("time zone unknown to Postgres; counting in UTC",
		slog.String("runtime_id", z.RuntimeID.String()), slog.String("timezone", z.Timezone))
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

const (
	// lagEvery is the time between two samples of the lag.
	lagEvery = 100 * time.Millisecond
	// drainedTimeout is how long the queue may take to become empty after a load has ended.
	drainedTimeout = 2 * time.Minute
	// holds is the most that the lag may grow by in a second where a rate is said to hold: the share of the upserts that is left over.
	holds = 0.03
	// searches bounds the rates that are tried to find the highest.
	searches = 6
	// usualShare is the share of the highest rate that a host may write at for long.
	usualShare = 0.7
)

// freshness measures the lag at several rates of upserts, with two workers.
func (b *bench) freshness(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	ids, err := h.prime(ctx)
	if err != nil {
		return err
	}
	workers, err := b.startFleet(ctx, h, 2)
	if err != nil {
		return err
	}
	defer workers.stop()
	t := &trial{workers: workers, tasks: ids, lag: currentLag(h)}
	for _, rate := range b.Rates {
		seen, err := t.run(ctx, rate, b.Duration)
		if err != nil {
			return err
		}
		b.addFreshness(seen, fmt.Sprintf("freshness at %s upserts a second", grouped(rate)))
	}
	highest, err := b.highestRate(ctx, t)
	if err != nil {
		return err
	}
	b.add("freshness", result{
		work: fmt.Sprintf("highest rate of upserts, %d connections, at which the queue does not grow", writers),
		measured: fmt.Sprintf("%s; the lag %s in the median, %s at the 99th percentile", aSecond.format(highest.rate),
			duration(quantile(highest.lags, 0.5)), duration(quantile(highest.lags, 0.99))),
	})
	usual := int(usualShare * highest.rate)
	seen, err := t.run(ctx, usual, b.Duration)
	if err != nil {
		return err
	}
	b.addFreshness(seen, fmt.Sprintf("freshness at %s upserts a second, %s of the highest rate", grouped(usual), trimmed(percent.format(usualShare))))
	return settle(ctx, h.Pool)
}

func (b *bench) addFreshness(seen sighting, work string) {
	late := ""
	if seen.rate < 0.98*float64(seen.wanted) {
		late = fmt.Sprintf(" (the host got to %s a second)", number(seen.rate))
	}
	label := fmt.Sprintf("lag at %s a second", grouped(seen.wanted))
	p50, p99 := quantile(seen.lags, 0.5), quantile(seen.lags, 0.99)
	b.add("freshness", result{
		work:     work + late + ", median",
		measured: fmt.Sprintf("%s (of entries when counted: %s)", duration(p50), duration(seen.counted.ages.quantile(0.5))),
		against:  "a tick", value: p50, wanted: atMost(0.7, seconds), label: label + ", median",
	}, result{
		work:     work + late + ", 99th percentile",
		measured: fmt.Sprintf("%s (of entries when counted: %s)", duration(p99), duration(seen.counted.ages.quantile(0.99))),
		against:  "a tick", value: p99, wanted: atMost(2, seconds), label: label + ", 99th percentile",
	})
}

// highestRate finds the rate of upserts at which the queue does not grow: first without pause, then less by what is left over.
func (b *bench) highestRate(ctx context.Context, t *trial) (sighting, error) {
	rate := 0
	for range searches {
		seen, err := t.run(ctx, rate, b.Duration)
		if err != nil {
			return sighting{}, err
		}
		say("%s upserts a second: the lag grows by %s in a second", number(seen.rate), duration(seen.growth))
		if seen.growth <= holds {
			return seen, nil
		}
		rate = int(seen.rate * max(0.5, 1-seen.growth))
	}
	return sighting{}, fmt.Errorf("the queue still grows at %d upserts a second", rate)
}

// trial lets a host write while two workers drain, and looks at the lag.
type trial struct {
	workers *fleet
	tasks   []pgtype.UUID
	lag     func(context.Context) (float64, error) // in seconds
	// disturb, if any, is called every disturbEvery.
	disturb func(context.Context) error
}

// sighting is what a trial has seen.
type sighting struct {
	wanted  int     // upserts a second; 0 for without pause
	rate    float64 // upserts a second
	growth  float64 // of the lag in a second
	lags    []float64
	counted counters
	zero    time.Duration // until there was no lag, after the last upsert
}

func currentLag(h *host) func(context.Context) (float64, error) {
	q := queries.New(h.Pool)
	return func(ctx context.Context) (float64, error) {
		lag, err := q.GetLag(ctx)
		return lag.Seconds, err
	}
}

// run writes at a rate and returns when the queue is empty again. The lags are sorted; those of the first tenth of the time are left out.
func (t *trial) run(ctx context.Context, rate int, length time.Duration) (sighting, error) {
	if rate > 0 {
		say("%d upserts a second for %s", rate, length)
	} else {
		say("upserts without pause for %s", length)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	host := upserter{host: t.workers.host, tasks: t.tasks, rate: rate}
	before, err := t.counted(ctx)
	if err != nil {
		return sighting{}, err
	}
	start := time.Now()
	written := make(chan error, 1)
	go func() { written <- host.run(ctx, length) }()
	sample := time.NewTicker(lagEvery)
	defer sample.Stop()
	disturb := time.NewTicker(disturbEvery)
	defer disturb.Stop()
	var lags []float64
	for {
		select {
		case err := <-written:
			if err != nil {
				return sighting{}, err
			}
			seen := sighting{wanted: rate, rate: float64(host.written.Load()) / time.Since(start).Seconds()}
			return t.finish(ctx, seen, lags, before)
		case <-disturb.C:
			if t.disturb != nil {
				if err := t.disturb(ctx); err != nil {
					return sighting{}, err
				}
			}
		case <-sample.C:
			lag, err := t.lag(ctx)
			if err != nil {
				return sighting{}, fmt.Errorf("get lag: %w", err)
			}
			lags = append(lags, lag)
		}
	}
}

// counted is nothing while workers are disturbed: one that was killed has taken its metrics with it.
func (t *trial) counted(ctx context.Context) (counters, error) {
	if t.disturb != nil {
		return counters{}, nil
	}
	return t.workers.scrape(ctx)
}

func (t *trial) finish(ctx context.Context, seen sighting, lags []float64, before counters) (sighting, error) {
	var err error
	if seen.zero, err = timed(func() error { return awaitNoLag(ctx, t.lag) }); err != nil {
		return seen, err
	}
	after, err := t.counted(ctx)
	if err != nil {
		return seen, err
	}
	if seen.counted, err = after.minus(before); err != nil {
		return seen, err
	}
	if len(lags) < 9 {
		return seen, fmt.Errorf("only %d samples of the lag", len(lags))
	}
	third := len(lags) / 3
	middle, last := lags[third:2*third], lags[len(lags)-third:]
	seen.growth = (mean(last) - mean(middle)) / (float64(len(lags)-2*third) * lagEvery.Seconds())
	seen.lags = slices.Sorted(slices.Values(lags[len(lags)/10:]))
	return seen, nil
}

func mean(list []float64) float64 {
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(len(list))
}

func awaitNoLag(ctx context.Context, get func(context.Context) (float64, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, drainedTimeout, fmt.Errorf("there is still lag %s after the last upsert", drainedTimeout))
	defer cancel()
	sample := time.NewTicker(lagEvery)
	defer sample.Stop()
	for {
		lag, err := get(ctx)
		if err == nil && lag == 0 {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return fmt.Errorf("get lag: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-sample.C:
		}
	}
}

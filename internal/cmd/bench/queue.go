package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// window is the time of which the median of drain passes is taken, unless a transaction is held for less than four of them.
const window = 30 * time.Second

const (
	// windowsBefore are those before the transaction.
	windowsBefore = 2
	// wantedOfPass is the most times longer that a pass may take while the transaction is open.
	wantedOfPass = 1.5
)

// curve is how long drain passes take, and how large the lag is, while a transaction keeps Postgres from cleaning up.
type curve struct {
	rate       int           // upserts a second
	from, till time.Duration // when the transaction was open
	points     []point
}

// point is what was seen in a window that ended at the time.
type point struct {
	at   time.Duration
	pass float64 // the median of the seconds' mean durations, in seconds
	lag  float64 // the largest, in seconds
}

// queue measures drain passes while a transaction of the host stays open, which has a snapshot and has written: Postgres may not remove
// what is drained, nor earlier versions of buckets.
func (b *bench) queue(ctx context.Context) error {
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

	each := min(window, b.Held/4)
	open := int((b.Held + each - 1) / each)
	c := curve{rate: b.Rate, from: windowsBefore * each, till: time.Duration(windowsBefore+open) * each}
	length := c.till + each
	say("%d upserts a second for %s, with a transaction open from %s on for %s", b.Rate, length, c.from, c.till-c.from)
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	load := upserter{host: h, tasks: ids, rate: b.Rate}
	written := make(chan error, 1)
	go func() { written <- load.run(loadCtx, length) }()

	holder, err := pgx.Connect(ctx, h.URL)
	if err != nil {
		return err
	}
	defer holder.Close(context.WithoutCancel(ctx)) //nolint:errcheck // It is of no use any more.
	watch := &passes{workers: workers, lag: currentLag(h)}
	if watch.seen, err = workers.scrape(ctx); err != nil {
		return err
	}
	start := time.Now()
	for i := range windowsBefore + open + 1 {
		switch i {
		case windowsBefore:
			_, err = holder.Exec(ctx, statement("hold"))
		case windowsBefore + open:
			_, err = holder.Exec(ctx, "ROLLBACK")
		}
		if err != nil {
			return fmt.Errorf("hold a transaction open: %w", err)
		}
		p := point{at: time.Duration(i+1) * each}
		if p.pass, p.lag, err = watch.look(ctx, start.Add(p.at)); err != nil {
			return err
		}
		say("%s: a pass takes %s, the lag is %s at most", p.at, duration(p.pass), duration(p.lag))
		c.points = append(c.points, p)
	}
	if err := <-written; err != nil {
		return err
	}
	if rate := float64(load.written.Load()) / time.Since(start).Seconds(); rate < 0.98*float64(b.Rate) {
		say("the host got to %s upserts a second only", number(rate))
		c.rate = int(rate)
	}
	b.report.curve = c
	b.addQueue(c)
	if err := awaitNoLag(ctx, currentLag(h)); err != nil {
		return err
	}
	workers.stop()
	return settle(ctx, h.Pool)
}

func (b *bench) addQueue(c curve) {
	before, worst, lag := c.summary()
	b.add("queue", result{
		work: fmt.Sprintf("a drain pass while a transaction is open for %s, %s upserts a second, worst median of %s",
			span(c.till-c.from), grouped(c.rate), span(c.points[0].at)),
		measured: fmt.Sprintf("%s; the lag %s at most", duration(worst), duration(lag)),
		against:  duration(before) + " before the transaction",
		value:    worst / before, wanted: atMost(wantedOfPass, times), label: "drain pass, transaction open",
	})
}

// summary returns the mean of the passes before the transaction, and the longest pass and the largest lag while it was open, in seconds.
func (c curve) summary() (before, worst, lag float64) {
	var passes []float64
	for _, p := range c.points {
		switch {
		case p.at <= c.from:
			passes = append(passes, p.pass)
		case p.at <= c.till:
			worst, lag = max(worst, p.pass), max(lag, p.lag)
		}
	}
	return mean(passes), worst, lag
}

// passes looks at the metrics of workers every second.
type passes struct {
	workers *fleet
	lag     func(context.Context) (float64, error)
	seen    counters
}

// look returns at the end what was seen until then: the median of the seconds' mean durations of a pass, and the largest lag, in seconds.
func (p *passes) look(ctx context.Context, end time.Time) (pass, lag float64, err error) {
	var means []float64
	next := time.NewTicker(time.Second)
	defer next.Stop()
	ended := time.NewTimer(time.Until(end))
	defer ended.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		case <-ended.C:
			if len(means) == 0 {
				return 0, 0, errors.New("the workers drain nothing")
			}
			return median(means), lag, nil
		case <-next.C:
			now, err := p.workers.scrape(ctx)
			if err != nil {
				return 0, 0, err
			}
			more, err := now.minus(p.seen)
			if err != nil {
				return 0, 0, err
			}
			p.seen = now
			if more.passes.count > 0 {
				means = append(means, more.passes.mean())
			}
			seconds, err := p.lag(ctx)
			if err != nil {
				return 0, 0, fmt.Errorf("get lag: %w", err)
			}
			lag = max(lag, seconds)
		}
	}
}

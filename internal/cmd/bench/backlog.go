package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"daybook/queries"
)

const (
	// backlogTimeout bounds how long a backlog is drained for.
	backlogTimeout = 30 * time.Minute
	// wantedTasks is how many tasks a second are to be drained, and wantedShare the share of the bare rate, if that is more.
	wantedTasks = 20_000
	wantedShare = 0.25
)

// backlog measures how fast two workers drain what a host leaves that has changed all its usage at once, from the moment that they are
// started.
func (b *bench) backlog(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	say("insert into plain tables")
	bare, err := insertPlain(ctx, h.Pool)
	if err != nil {
		return err
	}
	say("changing all usage")
	if _, err := h.Pool.Exec(ctx, statement("change_all")); err != nil {
		return fmt.Errorf("change all usage: %w", err)
	}
	if err := settle(ctx, h.Pool); err != nil {
		return err
	}
	var entries, tasks int64
	if err := h.Pool.QueryRow(ctx, statement("count_queue")).Scan(&entries, &tasks); err != nil {
		return fmt.Errorf("count the queue: %w", err)
	}
	say("draining %d entries of %d tasks", entries, tasks)
	var workers *fleet
	took, err := timed(func() (err error) {
		if workers, err = b.startFleet(ctx, h, 2); err != nil {
			return err
		}
		return workers.awaitDrained(ctx, entries)
	})
	if workers != nil {
		workers.stop()
	}
	if err != nil {
		return err
	}
	rate, bareRate := float64(tasks)/took.Seconds(), float64(tasks)/bare.Seconds()
	b.add("backlog", result{
		work: fmt.Sprintf("drain a backlog of %s entries of %s tasks, two workers", grouped(int(entries)), grouped(int(tasks))),
		measured: fmt.Sprintf("%s: %s tasks a second (%s entries)", duration(took.Seconds()), grouped(int(rate)),
			grouped(int(float64(entries)/took.Seconds()))),
		against: fmt.Sprintf("%s: %s tasks a second, bare `INSERT … SELECT … GROUP BY` of the same facts and rollups, two connections",
			duration(bare.Seconds()), grouped(int(bareRate))),
		ratio: percent.format(rate / bareRate), value: rate, wanted: atLeast(max(wantedTasks, wantedShare*bareRate), aSecond),
		label: "backlog, tasks drained",
	})
	return settle(ctx, h.Pool)
}

// awaitDrained returns when the queue is empty. Only when the workers have counted so many entries is it looked at, since that costs.
func (f *fleet) awaitDrained(ctx context.Context, entries int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, backlogTimeout, errors.New("the backlog is not drained after "+backlogTimeout.String()))
	defer cancel()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		done, err := f.scrape(ctx)
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if int64(done.entries) >= entries {
			lag, err := queries.New(f.host.Pool).GetLag(ctx)
			if err != nil || lag.Seconds == 0 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
	}
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// disturbEvery is how often a worker is killed, or a runtime changes its zone.
const disturbEvery = 5 * time.Second

// disturb measures the largest lag while one worker after the other is killed with SIGKILL and replaced, and the largest of all other
// runtimes while the largest runtime changes its zone and is rebuilt.
func (b *bench) disturb(ctx context.Context) error {
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

	victim := 0
	t := &trial{workers: workers, tasks: ids, lag: currentLag(h), disturb: func(context.Context) error {
		victim = 1 - victim
		workers.workers[victim].kill()
		return workers.start(ctx, victim) // It lives longer than this trial.
	}}
	killed, err := t.run(ctx, b.Rate/2, b.Duration)
	if err != nil {
		return err
	}

	var runtime pgtype.UUID
	var rows int
	if err := h.Pool.QueryRow(ctx, statement("largest_runtime")).Scan(&runtime, &rows); err != nil {
		return fmt.Errorf("find the largest runtime: %w", err)
	}
	zones := []string{"Asia/Kolkata", "America/Havana"}
	t.lag = func(ctx context.Context) (lag float64, err error) {
		err = h.Pool.QueryRow(ctx, statement("lag_of_others"), runtime).Scan(&lag)
		return lag, err
	}
	t.disturb = func(ctx context.Context) error {
		slices.Reverse(zones)
		_, err := h.Pool.Exec(ctx, statement("set_zone"), runtime, zones[0])
		return err
	}
	rebuilt, err := t.run(ctx, b.Rate/2, b.Duration)
	if err != nil {
		return err
	}
	rate := grouped(b.Rate / 2)
	b.add("disturb", result{
		work:     fmt.Sprintf("largest lag at %s upserts a second, a worker killed every %s", rate, span(disturbEvery)),
		measured: duration(killed.lags[len(killed.lags)-1]), value: killed.lags[len(killed.lags)-1], wanted: atMost(3, seconds),
		label: "lag, workers killed",
	}, result{
		work:     fmt.Sprintf("largest lag of other runtimes at %s upserts a second, one of %s rows rebuilt every %s", rate, grouped(rows), span(disturbEvery)),
		measured: duration(rebuilt.lags[len(rebuilt.lags)-1]), value: rebuilt.lags[len(rebuilt.lags)-1], wanted: atMost(3, seconds),
		label: "lag, runtimes rebuilt",
	}, result{
		work: "back to no lag after the last upsert", measured: duration(rebuilt.zero.Seconds()), value: rebuilt.zero.Seconds(), wanted: atMost(3, seconds),
	})
	return settle(ctx, h.Pool)
}

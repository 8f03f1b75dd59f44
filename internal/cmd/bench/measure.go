package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/migrations"
	"daybook/queries"
	"daybook/rollup"
)

// backfill compares a backfill with CREATE TABLE AS of the same facts and rollups.
func backfill(ctx context.Context, pool *pgxpool.Pool) (result, error) {
	if _, err := migrations.Up(ctx, pool); err != nil {
		return result{}, err
	}
	var rows int
	if err := pool.QueryRow(ctx, statement("count_usage")).Scan(&rows); err != nil {
		return result{}, err
	}
	say("create table as, of %d usage rows", rows)
	plain, err := timed(func() error {
		_, err := pool.Exec(ctx, statement("create_facts"))
		return err
	})
	if err != nil {
		return result{}, err
	}
	say("backfill of the same")
	took, err := timed(func() error { return rollup.Backfill(ctx, pool, rollup.BackfillConfig{}) })
	if err != nil {
		return result{}, err
	}
	if _, err := pool.Exec(ctx, "DROP SCHEMA plain CASCADE"); err != nil {
		return result{}, err
	}
	if _, err := pool.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return result{}, err
	}
	return result{
		fmt.Sprintf("backfill %d usage rows", rows), seconds(took), seconds(plain) + " CREATE TABLE AS",
		fmt.Sprintf("%.2f", took.Seconds()/plain.Seconds()), "at most 3",
	}, nil
}

// rebuild compares the rebuild of the largest runtime with the bare GROUP BYs on its facts, in several zones, and takes medians.
func rebuild(ctx context.Context, pool *pgxpool.Pool) (result, error) {
	var runtime pgtype.UUID
	var rows int
	if err := pool.QueryRow(ctx, statement("largest_runtime")).Scan(&runtime, &rows); err != nil {
		return result{}, err
	}
	say("rebuild of a runtime with %d usage rows", rows)
	var bare, took []time.Duration
	for _, zone := range []string{"Asia/Kolkata", "America/New_York", "Asia/Kathmandu", "America/Havana", "UTC"} {
		d, err := timed(func() error {
			_, err := pool.Exec(ctx, statement("group_runtime"), runtime, zone)
			return err
		})
		if err != nil {
			return result{}, err
		}
		bare = append(bare, d)
		if _, err := pool.Exec(ctx, statement("set_zone"), runtime, zone); err != nil {
			return result{}, err
		}
		d, err = timed(func() error {
			r, err := rollup.Rebuild(ctx, pool, runtime)
			if err == nil && r.Timezone != zone {
				err = fmt.Errorf("rebuilt in %q, want %q", r.Timezone, zone)
			}
			return err
		})
		if err != nil {
			return result{}, err
		}
		took = append(took, d)
	}
	return result{
		fmt.Sprintf("rebuild a runtime of %d usage rows", rows), seconds(median(took)), seconds(median(bare)) + " GROUP BYs",
		fmt.Sprintf("%.2f", median(took).Seconds()/median(bare).Seconds()), "at most 3",
	}, nil
}

// verify compares a verification of everything with the GROUP BYs that find the same numbers.
func verify(ctx context.Context, pool *pgxpool.Pool, usage int) (result, error) {
	const rounds = 5
	say("verification of %d usage rows", usage)
	var bare, took []time.Duration
	for range rounds {
		d, err := timed(func() error {
			_, err := pool.Exec(ctx, statement("group_all"))
			return err
		})
		if err != nil {
			return result{}, err
		}
		bare = append(bare, d)
		d, err = timed(func() error {
			r, err := rollup.Verify(ctx, pool, rollup.Verification{})
			if err == nil && len(r.Differences) > 0 {
				err = fmt.Errorf("the rollups differ: %v", r.Differences)
			}
			return err
		})
		if err != nil {
			return result{}, err
		}
		took = append(took, d)
	}
	return result{
		fmt.Sprintf("verify %d usage rows", usage), seconds(median(took)), seconds(median(bare)) + " GROUP BYs",
		fmt.Sprintf("%.2f", median(took).Seconds()/median(bare).Seconds()), "at most 2",
	}, nil
}

// drain compares the time to drain 100 changed tasks at two sizes of history. The two take turns, so that both meet the same
// machine.
func drain(ctx context.Context, small, large *pgxpool.Pool) (result, error) {
	const rounds, tasks = 41, 100
	say("drain of %d changed tasks", tasks)
	var took [2][]time.Duration
	for round := range rounds {
		for i, pool := range []*pgxpool.Pool{small, large} {
			var ids []pgtype.UUID
			if err := pool.QueryRow(ctx, statement("sample_tasks"), tasks, []float64{20, 1}[i]).Scan(&ids); err != nil {
				return result{}, err
			}
			if _, err := pool.Exec(ctx, statement("change_tasks"), ids); err != nil {
				return result{}, err
			}
			d, err := timed(func() error { return drainAll(ctx, pool) })
			if err != nil {
				return result{}, err
			}
			if round > 0 { // The first warms up.
				took[i] = append(took[i], d)
			}
		}
	}
	s, l := median(took[0]), median(took[1])
	return result{
		fmt.Sprintf("drain %d changed tasks, large history", tasks), fmt.Sprintf("%.1f ms", l.Seconds()*1000),
		fmt.Sprintf("%.1f ms at the small one", s.Seconds()*1000), fmt.Sprintf("%.2f", l.Seconds()/s.Seconds()), "at most 1.3",
	}, nil
}

func drainAll(ctx context.Context, pool *pgxpool.Pool) error {
	shards, err := queries.New(pool).ListShards(ctx)
	if err != nil {
		return err
	}
	_, err = rollup.Drain(ctx, pool, shards, nil)
	return err
}

// write compares the rate of single-row upserts on four connections with the triggers and without. Each ratio is of two
// neighbours in time, since the machine's speed drifts; the median of them counts.
func write(ctx context.Context, pool *pgxpool.Pool) (result, error) {
	const pairs, connections, each = 15, 4, 2 * time.Second
	say("host writes on %d connections, with triggers and without", connections)
	var ids []pgtype.UUID
	if err := pool.QueryRow(ctx, statement("sample_tasks"), 20_000, 5.0).Scan(&ids); err != nil {
		return result{}, err
	}
	if _, err := upsert(ctx, pool, ids, connections, each); err != nil { // Warms up.
		return result{}, err
	}
	var with, without, ratios []float64
	for pair := range pairs {
		rates := make(map[bool]float64)
		for _, on := range []bool{pair%2 == 0, pair%2 == 1} {
			change := migrations.Detach
			if on {
				change = migrations.Attach
			}
			if err := change(ctx, pool); err != nil {
				return result{}, err
			}
			n, err := upsert(ctx, pool, ids, connections, each)
			if err != nil {
				return result{}, err
			}
			rates[on] = float64(n) / each.Seconds()
			if err := drainAll(ctx, pool); err != nil {
				return result{}, err
			}
		}
		with = append(with, rates[true])
		without = append(without, rates[false])
		ratios = append(ratios, rates[true]/rates[false])
	}
	// What was written without triggers is not counted any more. What follows measures lag, not numbers.
	if err := migrations.Attach(ctx, pool); err != nil {
		return result{}, err
	}
	return result{
		fmt.Sprintf("upserts of single rows, %d connections", connections), fmt.Sprintf("%.0f a second", median(with)),
		fmt.Sprintf("%.0f without triggers", median(without)), fmt.Sprintf("%.2f", median(ratios)), "at least 0.80",
	}, nil
}

func upsert(ctx context.Context, pool *pgxpool.Pool, ids []pgtype.UUID, connections int, duration time.Duration) (int64, error) {
	sql := statement("upsert_usage")
	var n atomic.Int64
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var group errgroup.Group
	for c := range connections {
		group.Go(func() error {
			conn, err := pool.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			for i := c; ctx.Err() == nil; i += connections {
				if _, err := conn.Exec(context.WithoutCancel(ctx), sql, ids[i%len(ids)], i); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	return n.Load(), err
}

// disturbEvery is how often a worker is killed, or a runtime changes its zone, while freshness is measured with disturbances.
const disturbEvery = 5 * time.Second

// freshness runs two workers and a host that upserts at a fixed rate, and samples the lag: in peace; while one of the workers after
// the other is killed with SIGKILL and replaced; and while the largest runtime changes its zone and is rebuilt.
func (c *cli) freshness(ctx context.Context, pool *pgxpool.Pool) ([]result, error) {
	say("freshness at %d upserts a second for %s", c.Rate, c.Duration)
	lag := func(ctx context.Context) (float64, error) {
		lag, err := queries.New(pool).GetLag(ctx)
		return lag.Seconds, err
	}
	lags, zero, err := c.lagUnderLoad(ctx, pool, c.Duration, lag, nil)
	if err != nil {
		return nil, err
	}
	say("freshness while workers are killed")
	victim := 0
	killed, _, err := c.lagUnderLoad(ctx, pool, c.Duration/2, lag, func(workers *fleet) error {
		victim = 1 - victim
		if err := workers[victim].Process.Kill(); err != nil {
			return err
		}
		workers[victim].Wait() //nolint:errcheck // Killed.
		return c.startWorker(ctx, pool, workers, victim)
	})
	if err != nil {
		return nil, err
	}
	say("freshness while the largest runtime is rebuilt")
	var runtime pgtype.UUID
	var rows int
	if err := pool.QueryRow(ctx, statement("largest_runtime")).Scan(&runtime, &rows); err != nil {
		return nil, err
	}
	zones := []string{"Asia/Kolkata", "America/Havana"}
	lagOfOthers := func(ctx context.Context) (lag float64, err error) {
		err = pool.QueryRow(ctx, statement("lag_of_others"), runtime).Scan(&lag)
		return lag, err
	}
	rebuilt, _, err := c.lagUnderLoad(ctx, pool, c.Duration/2, lagOfOthers, func(*fleet) error {
		slices.Reverse(zones)
		_, err := pool.Exec(ctx, statement("set_zone"), runtime, zones[0])
		return err
	})
	if err != nil {
		return nil, err
	}
	rate := fmt.Sprintf("lag at %d upserts a second", c.Rate)
	return []result{
		{rate + ", median", fmt.Sprintf("%.2f s", median(lags)), "", "", "at most 1.5 s"},
		{rate + ", 99th percentile", fmt.Sprintf("%.2f s", lags[len(lags)*99/100]), "", "", "at most 3 s"},
		{"back to 0 after the end", seconds(zero), "", "", "at most 3 s"},
		{fmt.Sprintf("largest lag, a worker killed every %s", disturbEvery), fmt.Sprintf("%.2f s", killed[len(killed)-1]), "", "", "at most 3 s"},
		{fmt.Sprintf("largest lag of others, %d rows rebuilt every %s", rows, disturbEvery), fmt.Sprintf("%.2f s", rebuilt[len(rebuilt)-1]), "", "", "at most 3 s"},
	}, nil
}

// fleet is the worker processes of a measurement.
type fleet [2]*exec.Cmd

func (c *cli) startWorker(ctx context.Context, pool *pgxpool.Pool, workers *fleet, i int) error {
	w := exec.CommandContext(ctx, c.Worker, "run", "--log-level", "warn")
	w.Env = append(os.Environ(), "DATABASE_URL="+pool.Config().ConnString())
	w.Stderr = os.Stderr
	if err := w.Start(); err != nil {
		return fmt.Errorf("%w; build it with: make build", err)
	}
	workers[i] = w
	return nil
}

// lagUnderLoad samples a lag and returns it in order of size, and how long it took to be back at 0 after the last write. disturb, if any, is
// called every disturbEvery.
func (c *cli) lagUnderLoad(
	ctx context.Context, pool *pgxpool.Pool, duration time.Duration,
	lag func(context.Context) (float64, error), disturb func(*fleet) error,
) ([]float64, time.Duration, error) {
	var ids []pgtype.UUID
	if err := pool.QueryRow(ctx, statement("sample_tasks"), 20_000, 5.0).Scan(&ids); err != nil {
		return nil, 0, err
	}
	var workers fleet
	defer func() {
		for _, w := range workers {
			if w != nil {
				w.Process.Signal(syscall.SIGTERM) //nolint:errcheck // It may be gone.
				w.Wait()                          //nolint:errcheck // It ends by the signal.
			}
		}
	}()
	for i := range workers {
		if err := c.startWorker(ctx, pool, &workers, i); err != nil {
			return nil, 0, err
		}
	}
	written := make(chan error, 1)
	go func() { written <- c.writeAtRate(ctx, pool, ids, duration) }()
	sample := time.NewTicker(100 * time.Millisecond)
	defer sample.Stop()
	next := time.NewTicker(disturbEvery)
	defer next.Stop()
	var lags []float64
	for {
		select {
		case err := <-written:
			if err != nil {
				return nil, 0, err
			}
			zero, err := timed(func() error { return awaitNoLag(ctx, queries.New(pool), sample) })
			slices.Sort(lags)
			return lags, zero, err
		case <-next.C:
			if disturb == nil {
				continue
			}
			if err := disturb(&workers); err != nil {
				return nil, 0, err
			}
		case <-sample.C:
			l, err := lag(ctx)
			if err != nil {
				return nil, 0, err
			}
			lags = append(lags, l)
		}
	}
}

// writeAtRate upserts single rows. Each has its moment; a writer that falls behind catches up.
func (c *cli) writeAtRate(ctx context.Context, pool *pgxpool.Pool, ids []pgtype.UUID, duration time.Duration) error {
	const writers = 4
	sql := statement("upsert_usage")
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		group.Go(func() error {
			for i := w; ; i += writers {
				at := time.Duration(i) * time.Second / time.Duration(c.Rate)
				if at > duration {
					return nil
				}
				select {
				case <-time.After(time.Until(start.Add(at))):
				case <-ctx.Done():
					return ctx.Err()
				}
				if _, err := pool.Exec(ctx, sql, ids[i%len(ids)], i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func awaitNoLag(ctx context.Context, q *queries.Queries, sample *time.Ticker) error {
	for range 600 {
		lag, err := q.GetLag(ctx)
		if err != nil || lag.Seconds == 0 {
			return err
		}
		<-sample.C
	}
	return errors.New("there is still lag a minute after the end")
}

func median[T float64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

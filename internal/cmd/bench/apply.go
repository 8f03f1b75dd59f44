package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
	"daybook/rollup"
)

// roundsOfSizes is how many times --rounds the sizes take turns: such a round is short, and the difference is small.
const roundsOfSizes = 3

// fewRounds are too few, and each of them takes too long, for one to warm up.
const fewRounds = 5

// changedTasks is how many tasks change before each measurement of apply.
const changedTasks = 100

// warmTasks are counted before the first of them, as many as change in half a minute at 2,000 a second. A worker keeps its connections for an hour, and
// to touch a page of shared memory for the first time takes a process of Postgres longer than to read it. And a checkpoint comes every five
// minutes: in the middle between two of them most pages are in the log already.
const warmTasks = 60000

// apply measures how long it takes until changed tasks are counted: at three sizes of history, and beside what else keeps rollups.
func (b *bench) apply(ctx context.Context) error {
	var hosts []*host
	for _, name := range []string{small, middle, large} {
		h, err := b.host(ctx, name)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	if err := b.applyBySize(ctx, hosts); err != nil {
		return err
	}
	rival, err := newRival(ctx, hosts[1])
	if err != nil {
		return err
	}
	if err = rival.warm(ctx); err == nil {
		err = b.applyBesideRival(ctx, hosts[1], rival)
	}
	if err := errors.Join(err, rival.drop(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	for _, h := range hosts {
		if err := settle(ctx, h.Pool); err != nil {
			return err
		}
	}
	return nil
}

// applyBySize lets the sizes take turns, so that all meet the same machine, in an order of chance, so that none always meets what another
// has left to be flushed.
func (b *bench) applyBySize(ctx context.Context, hosts []*host) error {
	say("%d changed tasks at three sizes, %d rounds", changedTasks, roundsOfSizes*b.Rounds)
	for _, h := range hosts {
		if err := settle(ctx, h.Pool); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := h.warm(ctx); err != nil {
			return err
		}
	}
	took := make([][]time.Duration, len(hosts))
	for range roundsOfSizes * b.Rounds {
		for _, i := range rand.Perm(len(hosts)) {
			h := hosts[i]
			if err := h.change(ctx, "sample_tasks", changedTasks); err != nil {
				return err
			}
			d, err := timed(func() error { return drain(ctx, h) })
			if err != nil {
				return err
			}
			took[i] = append(took[i], d)
		}
	}
	least, most := median(took[0]).Seconds(), median(took[2]).Seconds()
	b.add("apply", result{
		work:     fmt.Sprintf("apply %d changed tasks, %s usage rows", changedTasks, grouped(hosts[2].rows)),
		measured: duration(most),
		against: fmt.Sprintf("%s with %s rows (%s with %s)", duration(least), grouped(hosts[0].rows),
			duration(median(took[1]).Seconds()), grouped(hosts[1].rows)),
		value: most / least, wanted: atMost(1.2, times), label: "apply, large beside small history",
	})
	return nil
}

// applyBesideRival lets both count the same changes, in turns.
func (b *bench) applyBesideRival(ctx context.Context, h *host, rival *rival) error {
	all, err := sideBySide(ctx, h, b.Rounds+1, "sample_tasks", rival.recompute)
	if err != nil {
		return err
	}
	recent, err := sideBySide(ctx, h, b.Rounds+1, "recent_tasks", rival.recompute)
	if err != nil {
		return err
	}
	refreshed, err := sideBySide(ctx, h, b.RefreshRounds, "sample_tasks", rival.refresh)
	if err != nil {
		return err
	}
	if err := rival.check(ctx); err != nil {
		return err
	}
	work := fmt.Sprintf("apply %d changed tasks, %s usage rows", changedTasks, grouped(h.rows))
	const recompute = " to compute the touched buckets again from the source"
	b.add("apply",
		result{
			work: work, measured: duration(all.ours), against: duration(all.theirs) + recompute,
			value: all.theirs / all.ours, wanted: atLeast(50, times), label: "apply, beside computing anew",
		},
		result{
			work: work + ", all of the last day", measured: duration(recent.ours), against: duration(recent.theirs) + recompute,
			ratio: number(recent.theirs / recent.ours),
		},
		result{
			work: work, measured: duration(refreshed.ours), against: duration(refreshed.theirs) + " `REFRESH MATERIALIZED VIEW CONCURRENTLY`",
			ratio: number(refreshed.theirs / refreshed.ours),
		})
	return nil
}

// pair is two medians in seconds.
type pair struct{ ours, theirs float64 }

// sideBySide returns the medians of the rounds, without the first, which warms up, if there are more than a few.
func sideBySide(ctx context.Context, h *host, rounds int, sample string, rival func(context.Context) error) (pair, error) {
	say("%d changed tasks (%s) beside a rival, %d rounds", changedTasks, sample, rounds)
	warmUp := rounds > fewRounds
	var ours, theirs []time.Duration
	for round := range rounds {
		if err := h.change(ctx, sample, changedTasks); err != nil {
			return pair{}, err
		}
		var took [2]time.Duration
		for i := range 2 {
			who := (round + i) % 2
			work := rival
			if who == 0 {
				work = func(ctx context.Context) error { return drain(ctx, h) }
			}
			var err error
			if took[who], err = timed(func() error { return work(ctx) }); err != nil {
				return pair{}, err
			}
		}
		if round > 0 || !warmUp {
			ours, theirs = append(ours, took[0]), append(theirs, took[1])
		}
	}
	return pair{median(ours).Seconds(), median(theirs).Seconds()}, nil
}

// warm counts many changed tasks on the connection that the rounds use, and removes the versions of rows that are left. A checkpoint after it would
// undo a part of it, for all databases of the server.
func (h *host) warm(ctx context.Context) error {
	if err := h.change(ctx, "sample_tasks", warmTasks); err != nil {
		return err
	}
	if err := drain(ctx, h); err != nil {
		return err
	}
	return execute(ctx, h.Pool, "vacuum")
}

// change changes the usage of n tasks, scattered over the history or of its last day, as a host would.
func (h *host) change(ctx context.Context, sample string, n int) error {
	var ids []pgtype.UUID
	var err error
	if sample == "sample_tasks" {
		ids, err = h.sampleTasks(ctx, n)
	} else {
		err = h.Pool.QueryRow(ctx, statement(sample), n).Scan(&ids)
	}
	if err != nil {
		return err
	}
	if _, err = h.Pool.Exec(ctx, statement("change_tasks"), ids); err != nil {
		return fmt.Errorf("change tasks: %w", err)
	}
	return nil
}

// drain counts what has changed, as a worker does with each tick.
func drain(ctx context.Context, h *host) error {
	shards, err := queries.New(h.Pool).ListShards(ctx)
	if err != nil {
		return fmt.Errorf("list shards: %w", err)
	}
	_, err = rollup.Drain(ctx, h.Pool, shards, nil)
	return err
}

// rival is what else would keep the rollups of days: tables that a function brings up to date from the source, and materialized views.
type rival struct {
	host *host
	conn *pgx.Conn
}

func newRival(ctx context.Context, h *host) (*rival, error) {
	say("making the rivals' tables and views")
	conn, err := pgx.Connect(ctx, h.URL)
	if err != nil {
		return nil, err
	}
	r := &rival{h, conn}
	if err := execute(ctx, conn, "rival_views", "rival_tables", "rival_function", "vacuum"); err != nil {
		return nil, errors.Join(err, r.drop(context.WithoutCancel(ctx)))
	}
	return r, nil
}

// warm lets Daybook and the rivals count many changed tasks after a checkpoint, for to make the rivals' tables wrote much log.
func (r *rival) warm(ctx context.Context) error {
	if err := settle(ctx, r.host.Pool); err != nil {
		return err
	}
	if err := r.host.warm(ctx); err != nil {
		return err
	}
	return execute(ctx, r.conn, "rival_recompute", "rival_refresh", "vacuum")
}

func (r *rival) recompute(ctx context.Context) error { return execute(ctx, r.conn, "rival_recompute") }

func (r *rival) refresh(ctx context.Context) error { return execute(ctx, r.conn, "rival_refresh") }

// check makes sure that the function gives the right numbers: a wrong one would be no rival.
func (r *rival) check(ctx context.Context) error {
	if err := execute(ctx, r.conn, "rival_recompute", "rival_refresh"); err != nil {
		return err
	}
	var wrong int
	if err := r.conn.QueryRow(ctx, statement("rival_check")).Scan(&wrong); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d rows of the rival's tables are wrong", wrong)
	}
	return nil
}

func (r *rival) drop(ctx context.Context) error {
	return errors.Join(execute(ctx, r.conn, "rival_drop"), r.conn.Close(ctx))
}

//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A kind of fault. The context is that of the test.
type faultKind struct {
	name string
	do   func(context.Context, *victims, fault) error
}

// A fault of a plan: what happens when, to which worker and for how long. size is what the kind makes of it.
type fault struct {
	kind   int
	at     time.Duration
	worker int
	lasts  time.Duration
	size   int
}

func (f fault) String() string {
	return fmt.Sprintf("%4d ms %s of worker %d for %d ms, %d", f.at.Milliseconds(), faultKinds[f.kind].name, f.worker, f.lasts.Milliseconds(), f.size)
}

// victims are the workers of one history, the second of which is behind a network, and their database.
type victims struct {
	workers [2]*worker
	network *network
	pool    *pgxpool.Pool
}

// faultKinds are drawn with the same chance. Their order is part of what a seed means.
var faultKinds = []faultKind{
	{"kill -9 and restart", func(_ context.Context, v *victims, f fault) error { return v.workers[f.worker].restart() }},
	{"SIGSTOP and SIGCONT", func(ctx context.Context, v *victims, f fault) error {
		v.workers[f.worker].signal(syscall.SIGSTOP)
		passes(ctx, f.lasts)
		v.workers[f.worker].signal(syscall.SIGCONT)
		return nil
	}},
	{"SIGTERM and restart", func(_ context.Context, v *victims, f fault) error {
		// A process that stands still takes no SIGTERM.
		v.workers[f.worker].signal(syscall.SIGCONT)
		w := v.workers[f.worker]
		started := w.started()
		// Before it has started it may end with 130, or by the signal.
		if code, _ := w.terminate(); code != 0 && started {
			return fmt.Errorf("after SIGTERM the worker exited with %d", code)
		}
		return w.start()
	}},
	{"pg_terminate_backend", func(ctx context.Context, v *victims, f fault) error {
		return v.hit(ctx, "pg_terminate_backend", f.size)
	}},
	{"pg_cancel_backend", func(ctx context.Context, v *victims, f fault) error { return v.hit(ctx, "pg_cancel_backend", 3*f.size) }},
	{"reset network", func(ctx context.Context, v *victims, f fault) error { return v.disturb(ctx, f, v.network.reset) }},
	{"cut network", func(ctx context.Context, v *victims, f fault) error { return v.disturb(ctx, f, v.network.cut) }},
	{"slow network", func(ctx context.Context, v *victims, f fault) error {
		return v.disturb(ctx, f, func() error { return v.network.slow(20 * f.size) })
	}},
	{"bucket rows locked in the wrong order", func(ctx context.Context, v *victims, f fault) error { return lockBuckets(ctx, v.pool, f.lasts/4) }},
	{"jobs copied", func(ctx context.Context, v *victims, f fault) error { return copyJobs(ctx, v.pool, 4*f.size) }},
}

// drawPlan is wholly determined by the seed.
func drawPlan(seed uint64, span time.Duration) []fault {
	random := rand.New(rand.NewPCG(seed, 1))
	plan := make([]fault, 4+random.IntN(5))
	for i := range plan {
		plan[i] = fault{
			kind: random.IntN(len(faultKinds)), worker: random.IntN(2), size: 1 + random.IntN(4),
			at:    time.Duration(random.Int64N(int64(span))).Truncate(time.Millisecond),
			lasts: time.Duration(50+random.IntN(1200)) * time.Millisecond,
		}
	}
	slices.SortStableFunc(plan, func(a, b fault) int { return int(a.at - b.at) })
	return plan
}

// hit calls a function of Postgres with the backends of some of the workers' connections.
func (v *victims) hit(ctx context.Context, function string, n int) error {
	_, err := v.pool.Exec(ctx, `SELECT `+function+`(pid) FROM (
		SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'daybook-%'
		ORDER BY (state = 'idle'), random() LIMIT $1) x`, n)
	return err
}

func (v *victims) disturb(ctx context.Context, f fault, how func() error) error {
	err := how()
	passes(ctx, f.lasts)
	v.network.heal()
	return err
}

// lockBuckets locks bucket rows in an order in which no drain does, the tables too, and holds them. Before it locks those that drains lock
// first it waits for somebody who waits for it, as long as hold at most: the two then lock each other out. Who loses a deadlock loses.
func lockBuckets(ctx context.Context, pool *pgxpool.Pool, hold time.Duration) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lockRows(ctx, tx, `SELECT FROM daybook.workspace_usage_daily ORDER BY workspace_id DESC, bucket_date DESC, project_id DESC, agent_id DESC FOR UPDATE`,
			`SELECT FROM daybook.task_usage_daily_by_agent ORDER BY runtime_id DESC, bucket_date DESC, agent_id DESC, model DESC FOR UPDATE`); err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, hold)
		defer cancel()
		_, err := poll(bounded, func() (waited bool, err error) {
			err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
				AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))`).Scan(&waited)
			return waited, err
		})
		if err != nil && bounded.Err() == nil {
			return err
		}
		if err := lockRows(ctx, tx, `SELECT FROM daybook.task_usage_daily ORDER BY runtime_id DESC, bucket_date DESC, model DESC FOR UPDATE`); err != nil {
			return err
		}
		passes(ctx, hold)
		return nil
	})
	var pgErr interface{ SQLState() string }
	if errors.As(err, &pgErr) && strings.HasPrefix(pgErr.SQLState(), "40") {
		return nil
	}
	return err
}

func lockRows(ctx context.Context, tx pgx.Tx, selects ...string) error {
	for _, sql := range selects {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// copyJobs inserts jobs that are or were there once more, to be run now.
func copyJobs(ctx context.Context, pool *pgxpool.Pool, n int) error {
	_, err := pool.Exec(ctx, `
		INSERT INTO daybook.river_job (state, attempt, max_attempts, priority, args, kind, queue, metadata, tags)
		SELECT 'available', 0, 1, priority, args, kind, queue, '{}', '{}'
		FROM (SELECT * FROM daybook.river_job WHERE kind LIKE 'daybook%' ORDER BY random() LIMIT $1) j, generate_series(1, 2)`, n)
	return err
}

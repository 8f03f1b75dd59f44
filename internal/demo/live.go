package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	//go:embed live_open_tasks.sql
	liveOpenTasksSQL string
	//go:embed live_create_task.sql
	liveCreateTaskSQL string
	//go:embed live_start_task.sql
	liveStartTaskSQL string
	//go:embed live_upsert_usage.sql
	liveUpsertUsageSQL string
	//go:embed live_finish_task.sql
	liveFinishTaskSQL string
	//go:embed live_move_task.sql
	liveMoveTaskSQL string
	//go:embed live_move_issue.sql
	liveMoveIssueSQL string
)

// Live sets how WriteLive writes.
type Live struct {
	Rate float64      // writes a second, default 20. It is a bound: a slow database gets fewer.
	Log  *slog.Logger // told when the database goes away and comes back; default none
}

const (
	defaultRate  = 20
	minOpenTasks = 3
	maxOpenTasks = 40
	writeTimeout = 5 * time.Second // a write that hangs counts as an outage
	minBackoff   = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// WriteLive writes as a host does until ctx ends, one statement and one transaction at a time: it creates, starts and
// finishes tasks, upserts their usage row by row, and now and then moves a task to another runtime or an
// issue to another project. It returns nil when ctx ends. It outlives an outage of the database by trying
// again, up to 5 s apart, and returns an error only where trying again cannot help: a host without its tables or
// without agents, or a role without rights.
func WriteLive(ctx context.Context, pool *pgxpool.Pool, live Live) error {
	if live.Rate <= 0 {
		live.Rate = defaultRate
	}
	if live.Log == nil {
		live.Log = slog.New(slog.DiscardHandler)
	}
	w := &liveWriter{pool: pool}
	next := w.adopt
	var pause time.Duration // between attempts; 0 while the database answers
	ticks := time.NewTicker(time.Duration(float64(time.Second) / live.Rate))
	defer ticks.Stop()
	for {
		wait := ticks.C
		if pause > 0 {
			wait = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait:
		}
		switch err := attempt(ctx, next); {
		case err == nil:
			next = w.write
			if pause > 0 {
				live.Log.Info("live writer is writing again")
			}
			pause = 0
		case ctx.Err() != nil:
			return nil
		case hopeless(err):
			return fmt.Errorf("write live usage: %w", err)
		default:
			if pause == 0 {
				live.Log.Warn("live writer cannot write, will try again", "error", err)
			}
			pause = min(max(2*pause, minBackoff), maxBackoff)
		}
	}
}

// liveWriter remembers the tasks that it has open. What it remembers may be gone from the database: then a write
// changes nothing, or fails for its foreign key and the task is forgotten.
type liveWriter struct {
	pool *pgxpool.Pool
	open []*liveTask
}

type liveTask struct {
	id      pgtype.UUID
	started bool
	adopted bool // left by an earlier writer: its counts are not known, so it is only brought to its end
	usage   []liveUsage
}

type liveUsage struct {
	model
	input, output, cacheRead, cacheWrite int64
}

func attempt(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return do(ctx)
}

func (w *liveWriter) adopt(ctx context.Context) error {
	rows, err := w.pool.Query(ctx, liveOpenTasksSQL)
	if err != nil {
		return fmt.Errorf("read open tasks: %w", err)
	}
	w.open, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*liveTask, error) {
		t := &liveTask{adopted: true}
		return t, row.Scan(&t.id, &t.started)
	})
	if err != nil {
		return fmt.Errorf("read open tasks: %w", err)
	}
	return nil
}

// write does one write: about one in ten creates a task, and as many finish one.
func (w *liveWriter) write(ctx context.Context) error {
	if len(w.open) < minOpenTasks || len(w.open) < maxOpenTasks && rand.Float64() < 0.1 {
		return w.create(ctx)
	}
	i := rand.IntN(len(w.open))
	t := w.open[i]
	var err error
	switch p := rand.Float64(); {
	case !t.started:
		err = w.exec(ctx, "start task", liveStartTaskSQL, pgx.NamedArgs{"task": t.id})
		t.started = t.started || err == nil
	case t.adopted, len(t.usage) > 0 && p < 0.12:
		err = w.exec(ctx, "finish task", liveFinishTaskSQL, pgx.NamedArgs{"task": t.id, "status": finalStatus()})
		if err == nil {
			w.forget(i)
		}
	case p < 0.14:
		err = w.exec(ctx, "move task", liveMoveTaskSQL, pgx.NamedArgs{"task": t.id})
	case p < 0.15:
		err = w.exec(ctx, "move issue", liveMoveIssueSQL, pgx.NamedArgs{"task": t.id, "near": randomID()})
	default:
		u := t.use()
		err = w.exec(ctx, "upsert usage", liveUpsertUsageSQL, pgx.NamedArgs{
			"task": t.id, "provider": u.provider, "model": u.name,
			"input": u.input, "output": u.output, "cache_read": u.cacheRead, "cache_write": u.cacheWrite,
		})
	}
	if gone(err) {
		w.forget(i)
		return nil
	}
	return err
}

func (w *liveWriter) create(ctx context.Context) error {
	near := randomID()
	near.Valid = rand.Float64() < 0.85 // else no issue
	t := &liveTask{}
	err := w.pool.QueryRow(ctx, liveCreateTaskSQL, pgx.NamedArgs{"near": near}).Scan(&t.id)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	w.open = append(w.open, t)
	return nil
}

func (w *liveWriter) exec(ctx context.Context, what, sql string, args pgx.NamedArgs) error {
	if _, err := w.pool.Exec(ctx, sql, args); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (w *liveWriter) forget(i int) {
	last := len(w.open) - 1
	w.open[i] = w.open[last]
	w.open = w.open[:last]
}

// use raises the counts of one of the task's models, or takes up another, three at most.
func (t *liveTask) use() *liveUsage {
	i := rand.IntN(len(models))
	if n := len(t.usage); n == 3 || n > 0 && rand.Float64() < 0.8 {
		i = -1
	}
	var u *liveUsage
	if i < 0 {
		u = &t.usage[rand.IntN(len(t.usage))]
	} else {
		for n := range t.usage {
			if t.usage[n].model == models[i] {
				u = &t.usage[n]
			}
		}
		if u == nil {
			t.usage = append(t.usage, liveUsage{model: models[i]})
			u = &t.usage[len(t.usage)-1]
		}
	}
	u.input += rand.Int64N(8_000)
	u.output += rand.Int64N(2_000)
	u.cacheRead += rand.Int64N(60_000)
	u.cacheWrite += rand.Int64N(4_000)
	return u
}

func finalStatus() string {
	switch p := rand.Float64(); {
	case p < 0.86:
		return "completed"
	case p < 0.95:
		return "failed"
	default:
		return "cancelled"
	}
}

func randomID() pgtype.UUID {
	id := pgtype.UUID{Valid: true}
	for i := range id.Bytes {
		id.Bytes[i] = byte(rand.Uint32())
	}
	return id
}

// gone reports a write that failed since its task, or its agent, was deleted meanwhile.
func gone(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23503"
}

// hopeless reports an error that trying again does not cure: no such table, no such right (class 42), or no agent.
func hopeless(err error) bool {
	var pg *pgconn.PgError
	return errors.Is(err, pgx.ErrNoRows) || errors.As(err, &pg) && len(pg.Code) == 5 && pg.Code[:2] == "42"
}

package rollup_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

// host is a small host: one workspace, project, issue, runtime and agent.
type host struct {
	t                                         *testing.T
	pool                                      *pgxpool.Pool
	workspace, project, issue, runtime, agent pgtype.UUID
}

// setup returns a host whose runtime is in the given zone.
func setup(t *testing.T, zone string) *host {
	t.Helper()
	h := &host{t: t, pool: testdb.New(t)}
	h.workspace = h.id(`INSERT INTO public.workspace (slug) VALUES ('acme') RETURNING id`)
	h.project = h.id(`INSERT INTO public.project (workspace_id) VALUES ($1) RETURNING id`, h.workspace)
	h.issue = h.id(`INSERT INTO public.issue (workspace_id, project_id) VALUES ($1, $2) RETURNING id`, h.workspace, h.project)
	h.runtime = h.newRuntime(zone)
	h.agent = h.id(`INSERT INTO public.agent (workspace_id, runtime_id) VALUES ($1, $2) RETURNING id`, h.workspace, h.runtime)
	return h
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func idOn(t *testing.T, q querier, sql string, args ...any) pgtype.UUID {
	t.Helper()
	return scalar[pgtype.UUID](t, q, sql, args...)
}

func scalar[T any](t *testing.T, q querier, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (h *host) id(sql string, args ...any) pgtype.UUID {
	h.t.Helper()
	return idOn(h.t, h.pool, sql, args...)
}

func (h *host) exec(sql string, args ...any) {
	h.t.Helper()
	if _, err := h.pool.Exec(h.t.Context(), sql, args...); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
}

// holdBackCleanup opens a transaction with a snapshot until the test has ended, so that Postgres keeps every version of a row from now on.
func (h *host) holdBackCleanup() {
	h.t.Helper()
	ctx := context.WithoutCancel(h.t.Context())
	tx, err := h.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { tx.Rollback(ctx) })
	if _, err := tx.Exec(ctx, `SELECT FROM public.task_usage`); err != nil {
		h.t.Fatal(err)
	}
}

// flushStatistics lets the pool's only connection tell what it has read and written so far.
func (h *host) flushStatistics(pool *pgxpool.Pool) {
	h.t.Helper()
	if _, err := pool.Exec(h.t.Context(), `SELECT pg_stat_force_next_flush()`); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) newRuntime(zone string) pgtype.UUID {
	h.t.Helper()
	return h.id(`INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone) VALUES ($1, 'r', 'p', $2) RETURNING id`,
		h.workspace, zone)
}

// newTask adds a task of the host's runtime and issue that has not started.
func (h *host) newTask() pgtype.UUID {
	h.t.Helper()
	return h.id(`INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id) VALUES ($1, $2, $3) RETURNING id`,
		h.agent, h.runtime, h.issue)
}

// newCompletedTasks adds tasks of the host's runtime and issue that have run.
func (h *host) newCompletedTasks(n int) []pgtype.UUID {
	h.t.Helper()
	return scalar[[]pgtype.UUID](h.t, h.pool, `
		WITH added AS (
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id, status, started_at, completed_at)
			SELECT $1, $2, $3, 'completed', '2025-05-01', '2025-05-01 01:00' FROM generate_series(1, $4::integer)
			RETURNING id
		) SELECT array_agg(id) FROM added`, h.agent, h.runtime, h.issue, n)
}

// use adds a usage row of ten input tokens. at is in the form that Postgres reads.
func (h *host) use(task pgtype.UUID, provider, at string) {
	h.t.Helper()
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, $2, 'm', 10, $3::text::timestamptz)`,
		task, provider, at)
}

// settle does all that workers do until nothing is left, and returns what the drains said.
func (h *host) settle() rollup.DrainResult {
	h.t.Helper()
	var total rollup.DrainResult
	ctx := h.t.Context()
	for range 10 {
		pending, err := history.Pending(ctx, h.pool)
		if err != nil {
			h.t.Fatal(err)
		}
		if !pending {
			return total
		}
		if _, err := rollup.ExpandScopes(ctx, h.pool); err != nil {
			h.t.Fatal(err)
		}
		r := h.drainAll(h.pool)
		total.Entries += r.Entries
		total.Tasks += r.Tasks
		total.Quarantined = append(total.Quarantined, r.Quarantined...)
		total.RejectedZones = append(total.RejectedZones, r.RejectedZones...)
		total.BelowZero.Runtimes = append(total.BelowZero.Runtimes, r.BelowZero.Runtimes...)
		total.BelowZero.Workspaces = append(total.BelowZero.Workspaces, r.BelowZero.Workspaces...)
		rebuilds, err := queries.New(h.pool).ListRequestedRebuilds(ctx, queries.ListRequestedRebuildsParams{RetrySeconds: 1, MaxRuntimes: 100})
		if err != nil {
			h.t.Fatal(err)
		}
		for _, r := range rebuilds {
			if _, err := rollup.Rebuild(ctx, h.pool, r.RuntimeID); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	h.t.Fatal("the queue does not become empty")
	return total
}

// drainAll drains every shard once.
func (h *host) drainAll(db rollup.DB) rollup.DrainResult {
	h.t.Helper()
	r, err := rollup.Drain(h.t.Context(), db, allShards, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// rebuildBeside begins a rebuild. What it returns gets the error of the rebuild.
func (h *host) rebuildBeside(db rollup.DB, runtime pgtype.UUID) <-chan error {
	done := make(chan error, 1)
	go func() {
		r, err := rollup.Rebuild(context.WithoutCancel(h.t.Context()), db, runtime)
		if err == nil && r.Busy {
			h.t.Error("the rebuild gave up")
		}
		done <- err
	}()
	return done
}

// drainBeside begins a drain of a shard. What it returns gets the error of the drain.
func (h *host) drainBeside(db rollup.DB, shard int16) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := rollup.Drain(context.WithoutCancel(h.t.Context()), db, []int16{shard}, nil)
		done <- err
	}()
	return done
}

// pausingDB stops before each commit until it is released.
type pausingDB struct {
	pool    *pgxpool.Pool
	reached chan struct{} // gets a value when a transaction is about to commit
	release chan struct{} // a transaction commits when it gets a value
}

func newPausingDB(pool *pgxpool.Pool) *pausingDB {
	return &pausingDB{pool: pool, reached: make(chan struct{}), release: make(chan struct{})}
}

func (db *pausingDB) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := db.pool.BeginTx(ctx, options)
	return &pausingTx{Tx: tx, db: db}, err
}

type pausingTx struct {
	pgx.Tx
	db *pausingDB
}

func (tx *pausingTx) Commit(ctx context.Context) error {
	tx.db.reached <- struct{}{}
	<-tx.db.release
	return tx.Tx.Commit(ctx)
}

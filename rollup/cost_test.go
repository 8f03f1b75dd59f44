package rollup_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// roundTrips counts the statements that are sent by themselves, and the batches.
type roundTrips struct{ n atomic.Int64 }

// TraceQueryStart is called by pgx.
func (r *roundTrips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	r.n.Add(1)
	return ctx
}

// TraceQueryEnd is called by pgx.
func (*roundTrips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart is called by pgx.
func (r *roundTrips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	r.n.Add(1)
	return ctx
}

// TraceBatchQuery is called by pgx.
func (*roundTrips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd is called by pgx.
func (*roundTrips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// drainCost is what a drain of some changed tasks costs. It is counted and not timed, so it is the same on every machine.
type drainCost struct {
	trips, rows, buffers, allocations, factWrites, bucketWrites int64
}

// changeAndDrain changes the usage of the first so many tasks and counts what it costs to drain them.
func (h *host) changeAndDrain(pool *pgxpool.Pool, trips *roundTrips, ids []pgtype.UUID) drainCost {
	h.t.Helper()
	h.exec(`UPDATE public.task_usage SET input_tokens = input_tokens + 1 WHERE task_id = ANY($1)`, ids)
	before := h.readCost(pool)
	trips.n.Store(0)
	var memory [2]runtime.MemStats
	runtime.ReadMemStats(&memory[0])
	result := h.drainAll(pool)
	runtime.ReadMemStats(&memory[1])
	cost := drainCost{trips: trips.n.Load(), allocations: int64(memory[1].Mallocs - memory[0].Mallocs)} //nolint:gosec // Small.
	if result.Tasks != len(ids) {
		h.t.Fatalf("%d tasks were drained, want %d", result.Tasks, len(ids))
	}
	after := h.readCost(pool)
	cost.rows, cost.buffers = after.rows-before.rows, after.buffers-before.buffers
	cost.factWrites, cost.bucketWrites = after.factWrites-before.factWrites, after.bucketWrites-before.bucketWrites
	return cost
}

// readCost reads what the tables have been used for, with what the pool's only connection has not told yet.
func (h *host) readCost(pool *pgxpool.Pool) drainCost {
	h.t.Helper()
	h.exec(`SELECT pg_stat_force_next_flush()`)
	h.flushStatistics(pool)
	var c drainCost
	err := pool.QueryRow(h.t.Context(), `
		SELECT sum(t.seq_tup_read + coalesce(t.idx_tup_fetch, 0))::bigint,
			sum(io.heap_blks_hit + io.heap_blks_read + coalesce(io.idx_blks_hit + io.idx_blks_read, 0))::bigint,
			coalesce(sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del) FILTER (WHERE t.relname LIKE 'ledger%'), 0)::bigint,
			coalesce(sum(t.n_tup_ins + t.n_tup_upd + t.n_tup_del) FILTER (
				WHERE t.relname LIKE 'bucket%' OR t.relname IN ('task_activity_by_hour', 'workspace_run_time_daily')), 0)::bigint
		FROM pg_stat_user_tables t
		JOIN pg_statio_user_tables io USING (relid)
		WHERE t.schemaname = 'daybook' AND t.relname NOT LIKE 'river%'
		   OR t.schemaname = 'public' AND t.relname IN ('agent_task_queue', 'task_usage', 'agent', 'issue')`).Scan(&c.rows, &c.buffers, &c.factWrites, &c.bucketWrites)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

//nolint:paralleltest // It counts what this process allocates, so it runs alone.
func TestWhatADrainCosts(t *testing.T) {
	h := setup(t, "Asia/Tokyo")
	trips := &roundTrips{}
	pool := testdb.Open(t, h.pool, func(c *pgxpool.Config) {
		c.MaxConns = 1
		c.ConnConfig.Tracer = trips
	})
	ids := h.newCompletedTasks(4000)
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
		SELECT id, 'p', 'm' || n % 3, 10, timestamptz '2025-05-01' + n % 30 * interval '1 day' FROM unnest($1::uuid[]) WITH ORDINALITY AS x (id, n)`, ids)
	h.settle()
	h.exec(`VACUUM (ANALYZE)`)
	h.changeAndDrain(pool, trips, ids[:10]) // Prepares the statements.

	few, many := h.changeAndDrain(pool, trips, ids[:100]), h.changeAndDrain(pool, trips, ids[:1000])
	t.Logf("100 tasks: %+v", few)
	t.Logf("1000 tasks: %+v", many)
	if few.trips > 10 || many.trips != few.trips {
		t.Errorf("%d round trips for 100 tasks and %d for 1,000, want at most 10 for both", few.trips, many.trips)
	}
	if few.factWrites != 100 || many.factWrites != 1000 {
		t.Errorf("%d facts were written for 100 tasks and %d for 1,000, want one for each", few.factWrites, many.factWrites)
	}
	// 30 days of 3 models: of each rollup of usage, 30 buckets at most; a model is of every third day.
	if few.bucketWrites > 5*30 || many.bucketWrites > 5*30 {
		t.Errorf("%d and %d buckets were written, want 150 at most", few.bucketWrites, many.bucketWrites)
	}
	for _, c := range []struct {
		cost  drainCost
		tasks int64
	}{{few, 100}, {many, 1000}} {
		if c.cost.rows > 9*c.tasks {
			t.Errorf("%d rows were read for %d tasks, want at most 9 for each", c.cost.rows, c.tasks)
		}
		if c.cost.buffers > 40*c.tasks {
			t.Errorf("%d buffers were touched for %d tasks, want at most 40 for each", c.cost.buffers, c.tasks)
		}
		if c.cost.allocations > 25*c.tasks+2500 {
			t.Errorf("%d allocations for %d tasks, want at most 25 for each and 2,500", c.cost.allocations, c.tasks)
		}
	}
	testdb.RequireExact(t, h.pool)
}

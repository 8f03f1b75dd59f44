package rollup_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
	"daybook/rollup"
)

// While somebody's transaction is open, Postgres keeps every version of a bucket. A drain may pass those of one generation, and not all.
func TestBucketsOfALongTransactionStayNear(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Tokyo")
	task := h.newTask()
	h.exec(`UPDATE public.agent_task_queue SET started_at = now(), status = 'running' WHERE id = $1`, task)
	h.use(task, "p", "2025-05-01 12:00")
	h.settle()
	h.holdBackCleanup()
	const writes = 400
	for i := range writes {
		h.exec(`UPDATE public.task_usage SET input_tokens = $2 WHERE task_id = $1`, task, 100+i)
		h.drainAll(h.pool)
	}
	for rollup, limit := range map[string]string{
		"task_usage_daily": "writes_per_generation", "task_usage_daily_by_agent": "writes_per_generation", "task_usage_daily_by_hour": "writes_per_generation",
		"workspace_usage_daily": "writes_per_generation", "workspace_usage_daily_by_agent": "writes_per_generation", "task_usage_fact": "writes_of_fact_generation",
	} {
		perGeneration := scalar[int](t, h.pool, fmt.Sprintf(`SELECT daybook.%s()`, limit))
		var generation, versions int
		if err := h.pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT generation, writes FROM daybook.%s`, rollup)).Scan(&generation, &versions); err != nil {
			t.Fatal(err)
		}
		if versions >= perGeneration || generation*perGeneration+versions != writes {
			t.Errorf("%s: after %d writes it has generation %d and %d versions in it", rollup, writes, generation, versions)
		}
	}
	testdb.RequireExact(t, h.pool)
}

// To find a bucket a drain passes the entries of its present generation, and not those of all before it.
func TestLookupsOfBucketsPassOneGeneration(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{"of a project": ``, "of no project": `, issue_id = NULL`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "Asia/Tokyo")
			h.exec(raiseOften)
			task := h.newTask()
			h.exec(`UPDATE public.agent_task_queue SET started_at = '2025-05-01', status = 'completed'`+change+` WHERE id = $1`, task)
			h.use(task, "p", "2025-05-01 12:00")
			h.settle()
			h.holdBackCleanup()
			const writes = 40 // Fewer than what autovacuum waits for.
			pool := testdb.Open(t, h.pool, func(c *pgxpool.Config) { c.MaxConns = 1 })
			var before map[string]int64
			for i := range writes {
				h.exec(`UPDATE public.task_usage SET input_tokens = $2 WHERE task_id = $1`, task, 100+i)
				h.exec(`UPDATE public.agent_task_queue SET completed_at = timestamptz '2025-05-01 01:00' + $2 * interval '1 second' WHERE id = $1`, task, i)
				before = h.passedEntries(pool)
				if got := h.drainAll(pool); got.Entries == 0 {
					t.Fatal("nothing was drained")
				}
			}
			for index, n := range h.passedEntries(pool) {
				n -= before[index]
				// Starts by hour do not change. One rollup is looked up twice: for the generation, and then for the row.
				if n > 2 || (n < 1 && index != "task_activity_by_hour_pkey") {
					t.Errorf("a drain passed %d entries of %s after %d writes, want 1 or 2", n, index, writes)
				}
			}
		})
	}
}

// passedEntries returns how many entries of each index of buckets have been read, with what the pool's only connection has not told yet.
func (h *host) passedEntries(pool *pgxpool.Pool) map[string]int64 {
	h.t.Helper()
	h.flushStatistics(pool)
	return scalar[map[string]int64](h.t, pool, `
		SELECT jsonb_object_agg(indexrelname, idx_tup_read) FROM pg_stat_user_indexes
		WHERE schemaname = 'daybook' AND (relname LIKE 'bucket%' OR relname IN ('task_activity_by_hour', 'workspace_run_time_daily'))`)
}

// A drain that has looked up a bucket's generation waits for another one that raises it, and then goes on.
func TestGenerationRisesUnderADrain(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.exec(raiseOften)
	ids := []pgtype.UUID{h.idsInShard(0, 1)[0], h.idsInShard(1, 1)[0]}
	h.useMany(ids, h.runtime)
	h.settle()
	h.exec(`UPDATE public.task_usage SET input_tokens = 7`)
	first := newPausingDB(h.pool)
	raised := h.drainBeside(first, 0)
	<-first.reached
	waited := make(chan error, 1)
	var second rollup.DrainResult
	go func() {
		var err error
		second, err = rollup.Drain(context.WithoutCancel(t.Context()), h.pool, []int16{1}, nil)
		waited <- err
	}()
	// Either it waits, or it has given up: nobody can tell which comes first.
	for ended := false; !ended && !scalar[bool](t, h.pool, `SELECT EXISTS (
		SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`); {
		select {
		case err := <-waited:
			ended = true
			waited <- err
		default:
		}
	}
	first.release <- struct{}{}
	if err := errors.Join(<-raised, <-waited); err != nil {
		t.Fatal(err)
	}
	if second.Busy || second.Entries != 1 {
		t.Errorf("the second drain has counted %d entries, busy: %v", second.Entries, second.Busy)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
	result, said, err := verified(t.Context(), h.pool)
	if err != nil || len(result.Differences) > 0 {
		t.Errorf("%v, %v: %s", result.Differences, err, said)
	}
}

// The index does not keep rows of two generations apart, so something else must.
func TestABucketHasOneRow(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01 12:00")
	h.settle()
	h.exec(`UPDATE daybook.task_usage_daily SET generation = 3`)
	h.exec(`UPDATE daybook.workspace_usage_daily SET generation = 3, project_id = NULL`)
	for _, insert := range []string{
		`INSERT INTO daybook.task_usage_daily SELECT runtime_id, bucket_date, provider, model, 1, 1, 1, 1, 1 FROM daybook.task_usage_daily`,
		`INSERT INTO daybook.workspace_usage_daily SELECT workspace_id, bucket_date, project_id, agent_id, provider, model, 1, 1, 1, 1, 1, 1, 1
			FROM daybook.workspace_usage_daily`,
		// A drain that read the generation of a row that is gone now.
		`INSERT INTO daybook.task_usage_daily SELECT runtime_id, '2025-05-02', provider, model, 1, 1, 1, 1, 1, 4 FROM daybook.task_usage_daily`,
	} {
		_, err := h.pool.Exec(t.Context(), insert)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "40001" {
			t.Errorf("%s: %v", insert, err)
		}
	}
}

// Whoever turns triggers off can insert a second row that says the same. Only its being there is wrong.
func TestSecondRowsOfBucketsAreFoundAndMended(t *testing.T) {
	t.Parallel()
	pool := filledHost(t)
	rollups := []struct{ name, table, columns string }{
		{"task_usage_daily", "bucket_usage_daily", "runtime_id, bucket_date, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count"},
		{"task_usage_daily_by_agent", "bucket_usage_by_agent", "runtime_id, bucket_date, agent_id, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count"},
		{"task_usage_daily_by_hour", "bucket_usage_by_hour", "runtime_id, bucket_date, hour, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, task_count"},
		{"task_activity_by_hour", "task_activity_by_hour", "runtime_id, hour, task_count"},
		{"workspace_usage_daily", "bucket_workspace_usage", "workspace_id, bucket_date, project_id, agent_id, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count"},
		{"workspace_usage_daily_by_agent", "bucket_workspace_usage_by_agent", "workspace_id, bucket_date, agent_id, name_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, event_count, day_task_count, window_task_count"},
		{"workspace_run_time_daily", "workspace_run_time_daily", "workspace_id, bucket_date, project_id, agent_id, total_microseconds, task_count, failed_count"},
		{"task_usage_fact", "ledger_usage", "task_id, name_id, dimension_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at"},
	}
	for _, r := range rollups {
		sql := fmt.Sprintf(`BEGIN; SET LOCAL session_replication_role = replica;
			INSERT INTO daybook.%[1]s (%[2]s, generation) SELECT %[2]s, generation + 1 FROM daybook.%[1]s LIMIT 1; COMMIT`, r.table, r.columns)
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		result, said, err := verified(t.Context(), pool)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		// The buckets of a fact that is there twice differ from the facts too.
		if result.Differences[r.name] == 0 || (len(result.Differences) != 1 && r.name != "task_usage_fact") {
			t.Errorf("%s: found are %v:\n%s", r.name, result.Differences, said)
		}
		mended, err := rollup.VerifyAndRepair(t.Context(), pool, rollup.Verification{})
		if err != nil || len(mended.Left.Differences) > 0 {
			t.Fatalf("%s: %+v, %v", r.name, mended, err)
		}
	}
	testdb.RequireExact(t, pool)
}

package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// fillSQL gives every runtime a year of facts and buckets, without the long way through the host.
const fillSQL = `
	INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone)
	SELECT '00000000-0000-4000-8000-000000000001', 'r', 'p', 'Asia/Tokyo' FROM generate_series(1, 60);
	INSERT INTO daybook.runtime_rollup (runtime_id, timezone, host_timezone) SELECT id, timezone, timezone FROM public.agent_runtime;
	INSERT INTO daybook.task_usage_daily
	SELECT id, current_date - d, 'p', m, 1, 1, 1, 1, 1 FROM public.agent_runtime, generate_series(0, 364) d, unnest('{large,small}'::text[]) m;
	INSERT INTO daybook.dimension (runtime_id, agent_id) SELECT id, id FROM public.agent_runtime;
	INSERT INTO daybook.ledger_usage (task_id, name_id, dimension_id, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
	SELECT gen_random_uuid(), n.id, x.id, 1, 1, 1, 1, now() - d * interval '1 day'
	FROM daybook.dimension x, generate_series(0, 364) d, daybook.usage_name n`

// recorder keeps the text of the last statement that a request made, not that which reads the lag.
type recorder struct {
	mu  sync.Mutex
	sql string
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !strings.Contains(data.SQL, "GetLag") {
		r.sql = data.SQL
	}
	return ctx
}

func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sql
}

// An answer reads the range of its runtime and window from one index, whatever the planner knows, and works out the zone once: a
// call for every row was ten times slower.
func TestPlan(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	exec(t, admin.pool, fillSQL)
	runtime := query[string](t, admin.pool, `SELECT id::text FROM public.agent_runtime LIMIT 1`)
	r := &recorder{}
	b := serve(t, testdb.Open(t, admin.pool, func(c *pgxpool.Config) { c.ConnConfig.Tracer = r }))
	b.get(t, owner, usagePath(runtime, "")).require(t, http.StatusOK)
	conn, err := admin.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "PREPARE usage (integer, uuid, text, uuid) AS "+r.last()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name, before string
		// The scan that is done, its condition, and the table that is left alone.
		scan, condition, unused string
	}{
		{"built, no statistics", ``, "bucket_usage_daily_pkey", "(runtime_id = reader.id) AND (bucket_date >= reader.since)", "ledger_usage"},
		{"built", `ANALYZE`, "bucket_usage_daily_pkey", "(runtime_id = reader.id) AND (bucket_date >= reader.since)", "ledger_usage"},
		{
			"pending", `UPDATE public.agent_runtime SET timezone = 'America/New_York'`, "ledger_usage_dimension_idx",
			"(dimension_id = d.id) AND (((created_at AT TIME ZONE 'UTC'::text))::date >= (reader.since - 9))", "bucket_usage_daily",
		},
	} {
		if _, err := conn.Exec(t.Context(), step.before); err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			plan := explain(t, conn, mode, runtime)
			lines := strings.Split(plan, "\n")
			read, skipped := false, false
			for i, line := range lines[:len(lines)-1] {
				executed := !strings.Contains(line, "never executed")
				read = read || executed && strings.Contains(line, step.scan) &&
					strings.Contains(lines[i+1], "Index Cond: ("+step.condition+")")
				skipped = skipped || !executed && strings.Contains(line, " on "+step.unused+" ")
			}
			if !read || !skipped || strings.Contains(plan, "Seq Scan on ledger") || strings.Contains(plan, "Seq Scan on bucket") || strings.Contains(plan, "effective_zone") {
				t.Errorf("%s, %s:\n%s", step.name, mode, plan)
			}
		}
	}
}

func explain(t *testing.T, conn *pgxpool.Conn, mode, runtime string) string {
	t.Helper()
	if _, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(),
		"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE usage (90, '"+owner+"', NULL, '"+runtime+"')", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

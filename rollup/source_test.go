package rollup_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/testdb"
	"daybook/queries"
)

var errNoted = errors.New("noted")

// statement notes the text of a query.
type statement struct {
	queries.DBTX // for what is not called

	sql string
}

func (s *statement) Query(_ context.Context, sql string, _ ...any) (pgx.Rows, error) {
	s.sql = sql
	return nil, errNoted
}

// sourceOfMany returns the statement that reads the source of many tasks.
func sourceOfMany(t *testing.T) string {
	t.Helper()
	var s statement
	if _, err := queries.New(&s).ListSourceOfMany(t.Context(), nil); !errors.Is(err, errNoted) {
		t.Fatal(err)
	}
	return s.sql
}

// addUsedTasks adds tasks of the host's runtime, each with usage of two models.
func (h *host) addUsedTasks(n int) []pgtype.UUID {
	h.t.Helper()
	ids := h.newCompletedTasks(n)
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
		SELECT id, 'p', m, 10, '2025-05-01 12:00' FROM unnest($1::uuid[]) id, unnest(ARRAY['m', 'n']) m`, ids)
	return ids
}

// joinOfUsage is the join of tasks with what was read of all usage.
var joinOfUsage = regexp.MustCompile(`Hash Cond: \((t\.id = u\.task_id|u\.task_id = t\.id)\)`)

// Postgres reads the usage of many tasks by a bitmap, whatever it knew of the tables when it planned that, and joins it by a hash: with a plan of another kind it
// would pass each row of usage for each task.
func TestUsageOfManyTasksIsReadAtOnce(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Tokyo")
	h.exec(`ALTER TABLE public.task_usage SET (autovacuum_enabled = off)`)
	h.exec(`ALTER TABLE public.agent_task_queue SET (autovacuum_enabled = off)`)
	requirePlan := func(when string) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), h.pool, func(tx pgx.Tx) error {
			if err := queries.New(tx).PrepareDrain(t.Context(), queries.PrepareDrainParams{IdleTimeout: "3s", LockTimeout: "900ms"}); err != nil {
				return err
			}
			if _, err := tx.Exec(t.Context(), `PREPARE source AS `+sourceOfMany(t)); err != nil {
				return err
			}
			rows, err := tx.Query(t.Context(), `EXPLAIN (COSTS OFF) EXECUTE source (ARRAY[gen_random_uuid()])`, pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plan := strings.Join(lines, "\n")
			if !joinOfUsage.MatchString(plan) || !strings.Contains(plan, "BitmapOr") {
				t.Errorf("%s the plan is\n%s", when, plan)
			}
			if _, deallocated := tx.Exec(t.Context(), `DEALLOCATE source`); deallocated != nil {
				return deallocated
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.exec(`ANALYZE`)
	h.addUsedTasks(600)
	requirePlan("on tables that were empty when they were analyzed")
	h.exec(`DELETE FROM public.task_usage`)
	h.exec(`VACUUM (ANALYZE)`)
	requirePlan("on tables without usage")
	h.addUsedTasks(5)
	h.exec(`ANALYZE`)
	requirePlan("on tables with little usage")
	h.addUsedTasks(600)
	h.exec(`ANALYZE`)
	requirePlan("on small tables")
	h.addUsedTasks(20000)
	requirePlan("on tables that were small when they were analyzed")
	h.exec(`ANALYZE`)
	requirePlan("on tables that are analyzed")
}

// What is read at once of many tasks is counted as if it were read one by one: tasks with several rows of usage, with one and with none.
func TestManyTasksAreCountedExactly(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Tokyo")
	asked := 0
	db := mutantDB{h.pool, &mutant{rewrite: map[string]func(string) string{
		"ListSourceOfMany": func(sql string) string {
			asked++
			return sql
		},
	}}}
	ids := h.addUsedTasks(1200)
	h.exec(`DELETE FROM public.task_usage WHERE task_id = ANY($1) AND (model = 'n' OR task_id = ANY($2))`, ids[:800], ids[:400])
	h.drainAll(db)
	testdb.RequireExact(t, h.pool)
	h.exec(`UPDATE public.task_usage SET input_tokens = input_tokens + 1, created_at = created_at + interval '1 day'`)
	h.exec(`DELETE FROM public.agent_task_queue WHERE id = ANY($1)`, ids[300:500])
	h.drainAll(db)
	testdb.RequireExact(t, h.pool)
	if asked < 2 {
		t.Errorf("the statement for many tasks was used %d times, want 2 at least", asked)
	}
}

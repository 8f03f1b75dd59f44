//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

// TestQuarantinedTask changes tasks among many, one of them so that it cannot be counted, in one transaction.
func TestQuarantinedTask(t *testing.T) {
	t.Parallel()
	const name = "one task that cannot be counted"
	const changedTasks = 1000
	n := byLength(100_000, 4000)
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: n})
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	watch := watchLag(t, pool)
	ids := query[[]pgtype.UUID](t, pool, `SELECT array_agg(task_id) FROM (SELECT DISTINCT task_id FROM public.task_usage ORDER BY task_id LIMIT $1) x`, changedTasks)
	bad := ids[changedTasks/2]
	// A time that falls on no day.
	execute(t, pool, `UPDATE public.task_usage SET output_tokens = output_tokens + 1, created_at = CASE task_id WHEN $2 THEN 'infinity' ELSE created_at END
		WHERE task_id = ANY($1)`, ids, bad)
	took := await(t, "the others to be counted", func() (bool, error) {
		return query[bool](t, pool, `SELECT NOT EXISTS (
			SELECT FROM public.task_usage u
			LEFT JOIN daybook.task_usage_fact f USING (task_id, provider, model)
			WHERE u.task_id = ANY($1) AND u.task_id <> $2 AND u.output_tokens IS DISTINCT FROM f.output_tokens)`, ids, bad), nil
	})
	awaitQuery(t, pool, `SELECT count(*) = 1 AND bool_and(task_id = $1) FROM daybook.task_usage_daily_quarantine`, bad)
	largest, _ := watch.ends(time.Now())
	note(t, name, "changed in one transaction", fmt.Sprintf("%d of %d tasks", changedTasks, n), "")
	noteTime(t, name, "the others were counted after", took, fresh)
	noteTime(t, name, "largest lag", largest, fresh)
	execute(t, pool, `UPDATE public.task_usage SET created_at = now() WHERE task_id = $1`, bad)
	requireExact(t, pool)
	retire(t, workers...)
}

//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

// backlogRate is what two workers drain at least, in entries a second, of tasks in no order. It bounds the time that a backlog takes.
const backlogRate = 5000

// TestBacklog leaves a long queue to two workers.
func TestBacklog(t *testing.T) {
	t.Parallel()
	const name = "backlog"
	n := orElse(*backlogSize, byLength(1_000_000, 12_000))
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: n / 3})
	changeUsage(t, pool, n)
	n = query[int](t, pool, entries)
	start := time.Now()
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	load := startLoad(t, pool, 100)
	watch := watchLag(t, pool)
	// The queue of each shard is first in, first out: what the host writes now is counted once its shard is through.
	took := await(t, "a small queue", func() (bool, error) {
		return query[int](t, pool, `SELECT count(*) FROM (SELECT FROM daybook.task_usage_daily_dirty LIMIT 2000) x`) < 2000, nil
	})
	passes(t.Context(), 3*time.Second)
	load.stopClean(t)
	_, recovered := watch.ends(start)
	note(t, name, "entries, and drained by two workers", fmt.Sprintf("%d, %.0f a second, beside 100 writes a second", n, float64(n)/took.Seconds()), "")
	bound := time.Duration(n/backlogRate)*time.Second + recovery
	noteTime(t, name, "lag under 3 s after the workers were back", recovered, bound.Truncate(time.Second))
	requireExact(t, pool)
	retire(t, workers...)
}

//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

// TestJobsCopied runs each job of the queue several times, on two workers at once, under load.
func TestJobsCopied(t *testing.T) {
	t.Parallel()
	const name = "two and more copies of each job"
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: byLength(20_000, 1200)})
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	load := startLoad(t, pool, 300)
	watch := watchLag(t, pool)
	zones := []string{"Asia/Kolkata", "America/Havana"}
	during, cancel := context.WithTimeout(t.Context(), byLength(20*time.Second, 5*time.Second))
	defer cancel()
	for n := 0; during.Err() == nil; n++ {
		if n%10 == 0 {
			execute(t, pool, `UPDATE public.agent_runtime SET timezone = $1 WHERE id IN (SELECT id FROM public.agent_runtime LIMIT 2)`, zones[n/10%2])
		}
		if err := copyJobs(t.Context(), pool, 20); err != nil {
			t.Fatal(err)
		}
		passes(during, 200*time.Millisecond)
	}
	written := load.stopClean(t)
	awaitSettled(t, pool)
	largest, _ := watch.ends(time.Now())
	jobs := query[int](t, pool, `SELECT count(*) FROM daybook.river_job WHERE kind LIKE 'daybook%' AND unique_key IS NULL AND state = 'completed'`)
	note(t, name, "copies done", fmt.Sprintf("%d, beside %d writes", jobs, written), "")
	noteTime(t, name, "largest lag", largest, fresh)
	requireExact(t, pool)
	retire(t, workers...)
}

// TestDeadlocks locks bucket rows in an order that no drain does, on a server that finds deadlocks before the drains give way by
// themselves.
func TestDeadlocks(t *testing.T) {
	t.Parallel()
	const name = "deadlocks with another transaction on the bucket rows"
	pool := testdb.New(t)
	database := query[string](t, pool, `SELECT current_database()`)
	execute(t, pool, `ALTER DATABASE `+database+` SET deadlock_timeout = '100ms'`)
	fill(t, pool, demo.Size{Tasks: byLength(20_000, 1200)})
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	load := startLoad(t, pool, 300)
	watch := watchLag(t, pool)
	during, cancel := context.WithTimeout(t.Context(), byLength(20*time.Second, 5*time.Second))
	defer cancel()
	deadlocks := func() int64 {
		return query[int64](t, pool, `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`)
	}
	rounds := 0
	for given := time.Now().Add(patience); during.Err() == nil || deadlocks() == 0; {
		if time.Now().After(given) {
			t.Fatal("there was no deadlock: the test shows nothing")
		}
		if err := lockBuckets(t.Context(), pool, 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		rounds++
		passes(t.Context(), 200*time.Millisecond)
	}
	healed := time.Now()
	passes(t.Context(), 2*time.Second)
	written := load.stopClean(t)
	awaitSettled(t, pool)
	largest, recovered := watch.ends(healed)
	note(t, name, "deadlocks", fmt.Sprintf("%d in %d rounds, beside %d writes", deadlocks(), rounds, written), "")
	note(t, name, "largest lag meanwhile", seconds(largest), "")
	noteTime(t, name, "lag under 3 s after the last", recovered, recovery)
	requireExact(t, pool)
	retire(t, workers...)
}

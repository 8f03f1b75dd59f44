//go:build chaos

package chaos

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

const (
	// stopBound is how long running jobs get to finish when a worker is to stop, and a second for the rest.
	stopBound = 9 * time.Second
	// commandStop is how long a command takes that stops at once.
	commandStop = 2 * time.Second
)

// running tells whether a statement of a worker is at work that matches a pattern.
const running = `SELECT EXISTS (SELECT FROM pg_stat_activity
	WHERE datname = current_database() AND application_name LIKE 'daybook-%' AND state <> 'idle' AND query LIKE $1)`

// TestTerminated sends SIGTERM to a worker in the middle of each thing that it does.
func TestTerminated(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: byLength(300_000, 5000), HotRuntime: 0.6})
	const name = "SIGTERM"
	term := func(what string, w *worker, want int, bound time.Duration) {
		t.Helper()
		code, took := w.terminate()
		if code != want {
			t.Errorf("%s: exit code %d, want %d", what, code, want)
		}
		noteTime(t, name, fmt.Sprintf("during %s: exit code %d after", what, code), took, bound)
	}

	w := startWorker(t, urlOf(t, pool))
	load := startLoad(t, pool, 300)
	changeUsage(t, pool, byLength(200_000, 16_000))
	await(t, "a drain", func() (bool, error) { return query[int](t, pool, shardLocks, "daybook-worker") > 0, nil })
	term("drains under load", w, 0, stopBound)
	load.stopClean(t)
	if n := query[int](t, pool, `SELECT count(*) FROM daybook.river_job WHERE state = 'running'`); n > 0 {
		t.Errorf("%d jobs are still running in River's eyes", n)
	}
	settle(t, startWorker(t, urlOf(t, pool)), func() { requireExact(t, pool) })

	w = startWorker(t, urlOf(t, pool))
	zones := []string{"Asia/Kathmandu", "America/Havana"}
	await(t, "a rebuild", func() (bool, error) {
		if query[bool](t, pool, running, "%InsertUsageBuckets%") {
			return true, nil
		}
		if !query[bool](t, pool, `SELECT EXISTS (SELECT FROM daybook.runtime_rebuild)`) { // The last was missed.
			slices.Reverse(zones)
			execute(t, pool, `UPDATE public.agent_runtime SET timezone = $1 WHERE name = 'central-1'`, zones[0])
		}
		return false, nil
	})
	term("a rebuild of a large runtime", w, 0, stopBound)
	settle(t, startWorker(t, urlOf(t, pool)), func() { requireExact(t, pool) })

	w = catch(t, pool, "backfill", "%name: ListSource%", func() {
		execute(t, pool, `UPDATE daybook.coverage SET backfill_listed_at = NULL, backfill_finished_at = NULL`)
	})
	term("backfill", w, 130, commandStop)
	if code := startWorker(t, urlOf(t, pool), "backfill").wait(); code != 0 {
		t.Errorf("the next backfill exited with %d", code)
	}
	requireExact(t, pool)

	w = catch(t, pool, "verify", "%name: %", func() {})
	term("worker verify", w, 130, commandStop)
	if code := startWorker(t, urlOf(t, pool), "verify").wait(); code != 0 {
		t.Errorf("the next verify exited with %d", code)
	}
	requireExact(t, pool)
}

// catch starts a command as often as it takes to meet it at a statement.
func catch(t *testing.T, pool *pgxpool.Pool, command, statement string, prepare func()) *worker {
	t.Helper()
	var w *worker
	await(t, command+" at work", func() (bool, error) {
		if w == nil || w.ended() {
			prepare()
			w = startWorker(t, urlOf(t, pool), command)
		}
		return query[bool](t, pool, running, statement), nil
	})
	return w
}

// settle lets a worker do what is left, and then retires it.
func settle(t *testing.T, w *worker, do func()) {
	t.Helper()
	do()
	retire(t, w)
}

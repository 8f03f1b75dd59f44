//go:build chaos

package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/localpg"
)

// maxSlowdown is how much longer a drain pass may take while a transaction of the host is open.
const maxSlowdown = 2.0

// passTimes has, of the drains that began in the last seconds, the time of each tick's in sum: one pass over all shards.
const passTimes = `
	SELECT coalesce(avg(s), 0)::float8, coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY s), 0)::float8, count(*)
	FROM (
		SELECT sum(extract(epoch FROM finalized_at - attempted_at)) AS s
		FROM daybook.river_job
		WHERE kind = 'daybook_drain' AND state = 'completed' AND attempted_at > clock_timestamp() - $1 * interval '1 second'
		GROUP BY args->>'tick') pass`

// passTime is how long the passes of some time took.
type passTime struct {
	mean, p95 float64
	passes    int
}

func (p passTime) String() string {
	return fmt.Sprintf("mean %.1f ms, 95th percentile %.1f ms of %d passes", 1000*p.mean, 1000*p.p95, p.passes)
}

func measurePasses(t *testing.T, pool *pgxpool.Pool, window time.Duration) passTime {
	t.Helper()
	var p passTime
	if err := pool.QueryRow(t.Context(), passTimes, window.Seconds()).Scan(&p.mean, &p.p95, &p.passes); err != nil {
		t.Fatal(err)
	}
	if p.passes == 0 {
		t.Fatal("no drain was completed")
	}
	return p
}

// TestHeldTransaction keeps a transaction of the host open while the host writes 1,000 rows a second: Postgres cannot clean up what
// it might still see, and a drain must not wade through it.
func TestHeldTransaction(t *testing.T) {
	t.Parallel()
	const name = "transaction of the host held open during 1,000 writes a second"
	held := orElse(*heldFor, byLength(10*time.Minute, 10*time.Second))
	window := min(held/2, 45*time.Second) // River keeps finished jobs for a minute.
	server := startServer(t, localpg.Config{Ephemeral: true})
	pool := install(t, server)
	fill(t, pool, demo.Size{Tasks: byLength(100_000, 2500)})
	ordinary := []string{"run"} // With the tick that users have.
	workers := []*worker{startWorker(t, urlOf(t, pool), ordinary...), startWorker(t, urlOf(t, pool), ordinary...)}
	load := startLoad(t, pool, 1000)
	passes(t.Context(), window+byLength(15*time.Second, 3*time.Second)) // At first plans are made and caches filled.
	before := measurePasses(t, pool, window)

	// It changes a row that the load leaves alone, which would have to wait for it.
	tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE public.task_usage SET output_tokens = output_tokens + 1
		WHERE id = (SELECT id FROM public.task_usage WHERE model <> 'chaos' LIMIT 1)`); err != nil {
		t.Fatal(err)
	}
	watch := watchLag(t, pool)
	start := time.Now()
	for left := held; left > 0; left = held - time.Since(start) {
		passes(t.Context(), min(left, time.Minute))
		t.Logf("after %s: %s", time.Since(start).Round(time.Second), measurePasses(t, pool, window))
	}
	during := measurePasses(t, pool, window)
	largest, _ := watch.ends(time.Now())
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	released := watchLag(t, pool)
	healed := time.Now()
	passes(t.Context(), 5*time.Second)
	written := load.stopClean(t)
	awaitSettled(t, pool)
	// The lag of what the transaction wrote is its age, once it has committed, until it is counted.
	_, recovered := released.ends(healed)
	note(t, name, "a drain pass before", before.String(), "")
	note(t, name, fmt.Sprintf("a drain pass at the end of %s", held), during.String(), "")
	ratio := during.mean / before.mean
	note(t, name, "ratio of the means", fmt.Sprintf("%.2f, beside %d writes", ratio, written), fmt.Sprintf("at most %.0f", maxSlowdown))
	if ratio > byLength(maxSlowdown, 3*maxSlowdown) { // The short one is of some seconds, which is noise.
		t.Errorf("a drain pass took %.2f times as long", ratio)
	}
	noteTime(t, name, "largest lag of others", largest, fresh)
	noteTime(t, name, "lag under 3 s after the commit", recovered, recovery)
	requireExact(t, pool)
	retire(t, workers...)
}

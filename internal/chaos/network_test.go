//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

const (
	// idleTimeout is after how long Postgres ends a transaction of a worker that stands still; see package rollup.
	idleTimeout = 3 * time.Second
	// lockRelease is how long a worker that is cut off or stands still keeps what it holds: until Postgres ends the transaction, and
	// before that the statement that was running, which waits for locks for 0.9 s at most.
	lockRelease = idleTimeout + 2*time.Second
)

// shardLocks counts the locks of shards that connections with an application name hold. The class is that of package rollup,
// 0x6461_7901, which Postgres 15 cannot read.
const shardLocks = `
	SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
	WHERE l.locktype = 'advisory' AND l.classid = 1684109569 AND l.granted AND a.datname = current_database() AND a.application_name = $1`

const entries = `SELECT count(*) FROM daybook.task_usage_daily_dirty`

// changeUsage makes n dirty entries, of tasks of all runtimes.
func changeUsage(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for n > 0 {
		tag, err := pool.Exec(t.Context(), `UPDATE public.task_usage SET output_tokens = output_tokens + 1
			WHERE id IN (SELECT id FROM public.task_usage LIMIT $1)`, n)
		if err != nil || tag.RowsAffected() == 0 {
			t.Fatalf("%d rows, %v", tag.RowsAffected(), err)
		}
		n -= int(tag.RowsAffected())
	}
}

// freezeWhileHolding calls freeze at a moment at which the worker with the application name holds shards: where it turns out that
// it does not, thaw is called and it is tried again.
func freezeWhileHolding(t *testing.T, pool *pgxpool.Pool, application string, freeze, thaw func()) {
	t.Helper()
	await(t, "a drain that is at work", func() (bool, error) {
		if query[int](t, pool, shardLocks, application) == 0 {
			return false, nil
		}
		freeze()
		// What is on its way arrives within moments; what is held after that is held.
		passes(t.Context(), 200*time.Millisecond)
		if query[int](t, pool, shardLocks, application) > 0 {
			return true, nil
		}
		thaw()
		return false, nil
	})
}

func TestNetworkCut(t *testing.T) {
	t.Parallel()
	const name = "network cut in the middle of drains, neither side is told"
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: byLength(100_000, 2500)})
	changeUsage(t, pool, byLength(200_000, 20_000))
	far := newNetwork(t, pool)
	cutOff := startWorker(t, far.url)
	var frozen time.Time
	freezeWhileHolding(t, pool, "daybook-far", func() {
		frozen = time.Now()
		if err := far.cut(); err != nil {
			t.Fatal(err)
		}
	}, far.heal)
	left := query[int](t, pool, entries)
	near := startWorker(t, urlOf(t, pool))
	await(t, "free locks", func() (bool, error) { return query[int](t, pool, shardLocks, "daybook-far") == 0, nil })
	noteTime(t, name, "locks of shards free again after", time.Since(frozen), lockRelease)
	changeUsage(t, pool, 1000) // It must be counted while the other is still cut off.
	settled := awaitSettled(t, pool)
	note(t, name, "meanwhile the other worker drained", fmt.Sprintf("%d entries", left+1000), "all")
	note(t, name, "until it had drained all, after the locks were free", seconds(settled), "")
	testdb.RequireExact(t, pool)
	watch := watchLag(t, pool)
	far.heal()
	healed := time.Now()
	changeUsage(t, pool, 1000)
	awaitSettled(t, pool)
	_, recovered := watch.ends(healed)
	noteTime(t, name, "lag under 3 s after the network was back", recovered, recovery)
	requireExact(t, pool)
	retire(t, cutOff, near)
}

// TestNetworkDisturbed resets and slows the network of one of two workers under load.
func TestNetworkDisturbed(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*network) error{
		"network reset, over and over":                  (*network).reset,
		"network slowed, 100 to 200 ms for each packet": func(n *network) error { return n.slow(150) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.New(t)
			fill(t, pool, demo.Size{Tasks: byLength(20_000, 1200)})
			far := newNetwork(t, pool)
			workers := []*worker{startWorker(t, far.url), startWorker(t, urlOf(t, pool))}
			load := startLoad(t, pool, 300)
			watch := watchLag(t, pool)
			ctx, cancel := context.WithTimeout(t.Context(), byLength(20*time.Second, 3500*time.Millisecond))
			defer cancel()
			for ctx.Err() == nil {
				if err := disturb(far); err != nil {
					t.Fatal(err)
				}
				passes(ctx, 1500*time.Millisecond)
				far.heal()
				passes(ctx, 300*time.Millisecond)
			}
			far.heal()
			healed := time.Now()
			passes(t.Context(), 3*time.Second)
			written := load.stopClean(t)
			awaitSettled(t, pool)
			largest, recovered := watch.ends(healed)
			note(t, name, "writes meanwhile", fmt.Sprint(written), "")
			note(t, name, "largest lag", seconds(largest), "")
			noteTime(t, name, "lag under 3 s after the end", recovered, recovery)
			requireExact(t, pool)
			retire(t, workers...)
		})
	}
}

//go:build chaos

package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

// TestStoppedWorker stops a worker that holds shards, for longer than every timeout: of idle transactions, of a tick, of a
// drain, of its sessions' statements. Those are 30 s at most, but for rebuilds.
func TestStoppedWorker(t *testing.T) {
	t.Parallel()
	const name = "SIGSTOP of a worker in the middle of drains"
	pool := testdb.New(t)
	fill(t, pool, demo.Size{Tasks: byLength(100_000, 2500)})
	changeUsage(t, pool, byLength(200_000, 20_000))
	stopped := startWorker(t, urlOf(t, pool, "application_name", "daybook-stopped"))
	var frozen time.Time
	freezeWhileHolding(t, pool, "daybook-stopped", func() {
		frozen = time.Now()
		stopped.signal(syscall.SIGSTOP)
	}, func() { stopped.signal(syscall.SIGCONT) })
	other := startWorker(t, urlOf(t, pool))
	await(t, "free locks", func() (bool, error) { return query[int](t, pool, shardLocks, "daybook-stopped") == 0, nil })
	noteTime(t, name, "locks of shards free again after", time.Since(frozen), lockRelease)
	awaitSettled(t, pool)
	watch := watchLag(t, pool)
	load := startLoad(t, pool, 300)
	settled := time.Now()
	passes(t.Context(), time.Until(frozen.Add(byLength(40*time.Second, 9*time.Second))))
	note(t, name, "stopped for", seconds(time.Since(frozen)), "longer than every timeout")
	stopped.signal(syscall.SIGCONT)
	passes(t.Context(), 4*time.Second)
	written := load.stopClean(t)
	awaitSettled(t, pool)
	largest, _ := watch.ends(settled)
	noteTime(t, name, fmt.Sprintf("largest lag of %d writes, after the locks were free and at SIGCONT", written), largest, fresh)
	requireExact(t, pool)
	retire(t, stopped, other)
}

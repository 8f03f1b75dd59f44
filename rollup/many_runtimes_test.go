package rollup_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/testdb"
	"daybook/rollup"
)

// usedByMany makes runtimes, and tasks of the shard whose usage is of all of them in turn.
func (h *host) usedByMany(runtimes, tasks int) []pgtype.UUID {
	h.t.Helper()
	ids := make([]pgtype.UUID, runtimes)
	for i := range ids {
		ids[i] = h.newRuntime("Asia/Kolkata")
	}
	h.useMany(h.idsInShard(0, tasks), ids...)
	return ids
}

// runtimeLocks counts the locks on runtimes, and those that stand for all of them.
func (h *host) runtimeLocks() (ofRuntimes, ofMany int) {
	h.t.Helper()
	err := h.pool.QueryRow(h.t.Context(), `
		SELECT count(*) FILTER (WHERE classid = x'64617902'::integer::oid), count(*) FILTER (WHERE classid = x'64617907'::integer::oid)
		FROM pg_locks
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&ofRuntimes, &ofMany)
	if err != nil {
		h.t.Fatal(err)
	}
	return ofRuntimes, ofMany
}

// A transaction of more runtimes than it may lock, and with two locks all the same.
func TestBatchOfManyRuntimes(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.usedByMany(600, 1300)
	db := newPausingDB(h.pool)
	done := make(chan error, 1)
	var r rollup.DrainResult
	go func() {
		var err error
		r, err = rollup.Drain(context.WithoutCancel(t.Context()), db, []int16{0}, nil)
		done <- err
	}()
	<-db.reached
	if ofRuntimes, ofMany := h.runtimeLocks(); ofRuntimes != 0 || ofMany != 1 {
		t.Errorf("%d locks of runtimes and %d of many, want none and one", ofRuntimes, ofMany)
	}
	db.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r.Tasks != 1300 || len(r.BatchSeconds) != 1 {
		t.Errorf("%d tasks drained in %d transactions, want 1300 in one", r.Tasks, len(r.BatchSeconds))
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// A drain of many runtimes leaves the entries of the one that is being rebuilt, and counts all others, in one transaction.
func TestDrainOfManyRuntimesBesideARebuild(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	runtimes := h.usedByMany(10, 100)
	h.settle()
	h.exec(`UPDATE public.agent_runtime SET timezone = 'America/Havana' WHERE id = $1`, runtimes[3])
	db := newPausingDB(h.pool)
	done := h.rebuildBeside(db, runtimes[3])
	<-db.reached
	if ofRuntimes, ofMany := h.runtimeLocks(); ofRuntimes != 1 || ofMany != 0 {
		t.Errorf("a rebuild has %d locks of runtimes and %d of many, want one and none", ofRuntimes, ofMany)
	}
	h.exec(`UPDATE public.task_usage SET input_tokens = 2`)
	if r := h.drainAll(h.pool); r.Tasks != 90 || r.Deferred != 10 || len(r.BatchSeconds) != 1 {
		t.Errorf("%d tasks drained in %d transactions and %d entries deferred, want 90 in one, and 10", r.Tasks, len(r.BatchSeconds), r.Deferred)
	}
	db.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// A rebuild waits for a drain of many runtimes, one of which it rebuilds. Meanwhile drains go on with a few runtimes at a time.
func TestRebuildBesideADrainOfManyRuntimes(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	runtimes := h.usedByMany(10, 100)
	h.settle()
	h.exec(`UPDATE public.task_usage SET input_tokens = 2`)
	others := make([]pgtype.UUID, 8)
	for i := range others {
		others[i] = h.newRuntime("UTC")
	}
	h.useMany(h.idsInShard(1, 8), others...)
	h.exec(`UPDATE public.task_usage SET created_at = created_at + interval '1 year' WHERE task_id IN (SELECT id FROM public.agent_task_queue
		WHERE daybook.shard_of(id) = 1)`) // In no bucket that the other drain holds.
	h.exec(`UPDATE public.agent_runtime SET timezone = 'America/Havana' WHERE id = $1`, runtimes[3])
	first := newPausingDB(h.pool)
	drained := h.drainBeside(first, 0)
	<-first.reached
	patient := mutantDB{h.pool, &mutant{rewrite: map[string]func(string) string{
		"PrepareRebuild": func(sql string) string { return sql + `, set_config('lock_timeout', '0', true)` },
	}}}
	rebuilt := h.rebuildBeside(patient, runtimes[3])
	for !scalar[bool](t, h.pool, `
		SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = x'64617907'::integer::oid AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`) {
		select {
		case err := <-rebuilt:
			t.Fatalf("the rebuild has not waited: %v", err)
		default:
		}
	}
	second := newPausingDB(h.pool)
	drainedToo := h.drainBeside(second, 1)
	transactions := 0
	for running := true; running; {
		select {
		case <-second.reached:
			transactions++
			// One is the rebuild's. The last task of a transaction may touch one runtime more than it may lock.
			if ofRuntimes, _ := h.runtimeLocks(); ofRuntimes > 1+maxRuntimes+1 {
				t.Errorf("%d locks of runtimes", ofRuntimes)
			}
			second.release <- struct{}{}
		case err := <-drainedToo:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		}
	}
	if transactions < 3 {
		t.Errorf("8 runtimes in %d transactions, of %d at most", transactions, maxRuntimes)
	}
	first.release <- struct{}{}
	if err := errors.Join(<-drained, <-rebuilt); err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// More tasks of many runtimes than one transaction counts, in a drain and in a backfill.
func TestManyTasksOfManyRuntimes(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.usedByMany(50, 5000)
	r, err := rollup.Drain(t.Context(), h.pool, []int16{0}, nil)
	if err != nil || r.Tasks < 5000 || len(r.BatchSeconds) < 3 {
		t.Errorf("%d tasks drained in %d transactions, %v; want 5000 in three at least", r.Tasks, len(r.BatchSeconds), err)
	}
	testdb.RequireExact(t, h.pool)
	h.exec(`UPDATE public.task_usage SET input_tokens = 2`)
	h.exec(`TRUNCATE daybook.task_usage_daily_dirty`)
	if err := rollup.Backfill(t.Context(), h.pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, h.pool)
}

// The rebuilds of workers of an older version do not wait for drains of many runtimes, so they are refused.
func TestRebuildOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01 23:30Z")
	h.settle()
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Asia/Kolkata'`)
	old := mutantDB{h.pool, &mutant{rewrite: map[string]func(string) string{
		"PrepareRebuild": func(sql string) string {
			return sql + `, set_config('daybook.awaits_drains_of_many', '', true)`
		},
	}}}
	_, err := rollup.Rebuild(t.Context(), old, h.runtime)
	const want = "a worker of an older version may not rebuild runtimes"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

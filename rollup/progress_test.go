package rollup_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

// A transaction that is open for long has numbers lower than those that are drained meanwhile. Once it commits its entries are counted, with
// drains that believe that numbers are committed in their order they are not.
func TestEntriesOfALongTransactionAreCounted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		mutant  mutant
		counted bool
	}{
		{"as it is", mutant{rewrite: noteEveryStep}, true},
		{"numbers taken for an order", mutant{rewrite: map[string]func(string) string{
			"AdvanceProgress": func(sql string) string {
				return strings.ReplaceAll(noteEveryStep["AdvanceProgress"](sql), "WHERE x.xid < p.next_xid", "WHERE false")
			},
		}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "UTC")
			db := mutantDB{h.pool, &test.mutant}
			task := h.newTask()
			long, err := h.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer long.Rollback(t.Context())
			idOn(t, long, `INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES ($1, 'p', 'm', 1) RETURNING id`, task)
			shard := scalar[int16](t, h.pool, `SELECT daybook.shard_of($1)`, task)
			start := func() int64 { return scalar[int64](t, h.pool, `SELECT daybook.queue_start($1)`, shard) }
			const marked, most = 20, 1000
			// Transactions of other tests on this server end too, and each may set the beginning back for a pass.
			for n := 0; n < marked || start() < marked/2; n++ {
				if n == most {
					t.Fatalf("the queue begins at %d: drains pass dead entries again and again", start())
				}
				h.exec(`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT $1, $2`, shard, task)
				h.drainAll(db)
			}
			if err := long.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if test.counted != (start() == 0) {
				t.Errorf("the queue begins at %d after the transaction ended", start())
			}
			h.drainAll(db)
			h.drainAll(db)
			if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_daily_dirty`); test.counted != (n == 0) {
				t.Errorf("%d entries are left", n)
			}
			if test.counted {
				testdb.RequireExact(t, h.pool)
				if lag, err := queries.New(h.pool).GetLag(t.Context()); err != nil || lag.Seconds != 0 {
					t.Errorf("lag %v, %v", lag.Seconds, err)
				}
			}
		})
	}
}

// Entries that a rebuild keeps from being counted are not passed by.
func TestDeferredEntriesAreNotForgotten(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	db := mutantDB{h.pool, &mutant{rewrite: noteEveryStep}}
	task, free := h.newTask(), h.newTask()
	h.exec(`UPDATE public.agent_task_queue SET runtime_id = NULL WHERE id = $1`, free)
	h.use(task, "p", "2025-05-01")
	h.settle()
	rebuilding := newPausingDB(h.pool)
	done := h.rebuildBeside(rebuilding, h.runtime)
	<-rebuilding.reached
	h.use(task, "q", "2025-05-01")
	for range 10 {
		h.exec(`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT daybook.shard_of($1), $2`, task, free)
		if r := h.drainAll(db); r.Deferred != 1 {
			t.Fatalf("%d entries were deferred, want 1", r.Deferred)
		}
	}
	rebuilding.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// A pass of several transactions, in whose time another worker drains the same shard and notes how far it is.
func TestPassesOfOneShardOverlap(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	other, task := h.newTask(), h.newTask()
	shard := scalar[int16](t, h.pool, `SELECT daybook.shard_of($1)`, task)
	put := func(n int) {
		h.exec(`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT $1, $2 FROM generate_series(1, $3::integer)`, shard, other, n)
	}
	put(4500) // More than one transaction takes.
	var long pgx.Tx
	asked := 0
	between := func() bool {
		if asked++; asked != 2 {
			return false
		}
		var err error
		if long, err = h.pool.Begin(t.Context()); err != nil {
			t.Error(err)
			return true
		}
		idOn(t, long, `INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES ($1, 'p', 'm', 1) RETURNING id`, task)
		put(1)
		h.drainAll(h.pool)
		return false
	}
	if _, err := rollup.Drain(t.Context(), h.pool, []int16{shard}, between); err != nil {
		t.Fatal(err)
	}
	if err := long.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// Marks that somebody changed, or that a restored queue makes wrong, hide no entry.
func TestMarksThatCannotBeRight(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"gone":               `DELETE FROM daybook.shard_progress`,
		"numbers begin anew": `UPDATE daybook.shard_progress SET low_id = 1000000; ALTER SEQUENCE daybook.task_usage_daily_dirty_id_seq RESTART`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "UTC")
			h.exec(sql)
			h.use(h.newTask(), "p", "2025-05-01")
			h.settle()
			testdb.RequireExact(t, h.pool)
		})
	}
	// One that is too high and yet may be right is found by a repair.
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01")
	h.exec(`UPDATE daybook.shard_progress SET low_id = pg_sequence_last_value('daybook.task_usage_daily_dirty_id_seq'), next_id = pg_sequence_last_value('daybook.task_usage_daily_dirty_id_seq')`)
	if _, err := rollup.VerifyAndRepair(t.Context(), h.pool, rollup.Verification{}); err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// What one shard waits for keeps no other shard.
func TestALockedBucketStopsOneShard(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	stuck := h.newTask()
	h.use(stuck, "stuck", "2025-05-01")
	h.settle()
	holding, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holding.Exec(t.Context(), `SELECT FROM daybook.task_usage_daily WHERE provider = 'stuck' FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE public.task_usage SET input_tokens = 99`)
	shard := scalar[int16](t, h.pool, `SELECT daybook.shard_of($1)`, stuck)
	for others := 0; others < 20; {
		if task := h.newTask(); scalar[int16](t, h.pool, `SELECT daybook.shard_of($1)`, task) != shard {
			h.use(task, "free", "2025-05-01")
			others++
		}
	}
	if r := h.drainAll(h.pool); !r.Busy || r.Tasks != 20 {
		t.Errorf("%d tasks were counted, busy: %t; want the 20 of other shards", r.Tasks, r.Busy)
	}
	if err := holding.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// A bucket that holds less than is taken back from it does not stop a drain: the rest is counted, and what is below zero is said and mended.
func TestBucketsBelowZeroAreMended(t *testing.T) {
	t.Parallel()
	for _, table := range []string{
		"task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "task_activity_by_hour",
		"workspace_usage_daily", "workspace_usage_daily_by_agent", "workspace_run_time_daily",
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "Asia/Kolkata")
			task, other := h.newTask(), h.newTask()
			h.exec(`UPDATE public.agent_task_queue SET status = 'completed', started_at = '2025-05-01', completed_at = '2025-05-01 01:00'`)
			h.use(task, "p", "2025-05-01")
			h.settle()
			h.exec(`DELETE FROM daybook.` + table)
			h.exec(`DELETE FROM public.agent_task_queue WHERE id = $1`, task)
			h.use(other, "p", "2025-05-02")
			r := h.settle()
			if r.Tasks != 2 || len(r.Quarantined) != 0 {
				t.Errorf("%d tasks were counted and %d quarantined", r.Tasks, len(r.Quarantined))
			}
			ofWorkspace := strings.HasPrefix(table, "workspace")
			if found := slices.Contains(r.BelowZero.Runtimes, h.runtime); found == ofWorkspace {
				t.Errorf("the runtime is reported: %t", found)
			}
			if found := slices.Contains(r.BelowZero.Workspaces, h.workspace); found != ofWorkspace {
				t.Errorf("the workspace is reported: %t", found)
			}
			if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.`+table+` x WHERE to_jsonb(x)::text LIKE '%count": -%'`); n > 0 {
				t.Errorf("%d buckets below zero are left", n)
			}
			if ofWorkspace { // The verification that was asked for is the next.
				if _, err := rollup.VerifySample(t.Context(), h.pool, rollup.Sample{Period: 1e6, Every: 1}); err != nil {
					t.Fatal(err)
				}
			}
			testdb.RequireExact(t, h.pool)
		})
	}
}

// A sum below zero, or of no fact, is as wrong as a count. A host that has negative numbers itself has its buckets left alone.
func TestSumsBelowZero(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, plant, change string
		reported            bool
	}{
		{"an overwrite takes back more than there is", `UPDATE daybook.task_usage_daily SET input_tokens = 1`, `UPDATE public.task_usage SET input_tokens = 2`, true},
		{"a bucket without facts has tokens left", `UPDATE daybook.task_usage_daily SET input_tokens = 1000`, `DELETE FROM public.task_usage`, true},
		{"the host has a negative number", `SELECT`, `UPDATE public.task_usage SET input_tokens = -5`, false},
		{"nothing is wrong", `SELECT`, `UPDATE public.task_usage SET input_tokens = 2`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "UTC")
			h.use(h.newTask(), "p", "2025-05-01")
			h.settle()
			h.exec(test.plant)
			h.exec(test.change)
			r := h.settle()
			if reported := slices.Contains(r.BelowZero.Runtimes, h.runtime); reported != test.reported {
				t.Errorf("reported: %t, want %t", reported, test.reported)
			}
			testdb.RequireExact(t, h.pool)
		})
	}
}

// The seed of a history decides nothing here: entries are committed in another order than that of their numbers by many transactions that
// overlap, while drains note their progress.
func TestManyTransactionsOverlap(t *testing.T) {
	t.Parallel()
	seed := history.Seed(t)
	pool := testdb.New(t)
	db := mutantDB{pool, &mutant{rewrite: noteEveryStep}}
	if err := play(t.Context(), pool, db, history.Config{Seed: seed, Connections: 12, Transactions: 60}); err != nil {
		t.Fatal(err)
	}
	requireNeverBelowZero(t, pool)
	testdb.RequireExact(t, pool)
}

// A pass that begins in the middle of the queue must not tell others that it is drained up to there.
func TestPartialPassesLoseNothing(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	db := mutantDB{h.pool, &mutant{rewrite: noteEveryStep}}
	ids := h.idsInShard(0, 40)
	h.useMany(ids[:20], h.runtime)
	shards := scalar[[]int16](t, h.pool, `SELECT array_agg(DISTINCT shard) FROM daybook.task_usage_daily_dirty`)
	if !slices.Equal(shards, []int16{0}) {
		t.Fatalf("entries are in shards %v, want 0 alone", shards)
	}
	middle := scalar[int64](t, h.pool, `SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM daybook.task_usage_daily_dirty`)
	behind := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_daily_dirty WHERE id > $1`, middle)
	for pass, want := range []int{behind, 0, 0} {
		batches := 0
		one := func() bool { batches++; return batches > 1 }
		result, err := rollup.DrainFrom(t.Context(), db, shards, []int64{middle}, one)
		if err != nil {
			t.Fatal(err)
		}
		if result.Entries != want {
			t.Errorf("pass %d has counted %d entries, want %d", pass, result.Entries, want)
		}
	}
	if start := scalar[int64](t, h.pool, `SELECT daybook.queue_start(0::smallint)`); start != 0 {
		t.Errorf("the queue begins at %d, and there are entries before", start)
	}
	// One that has time comes to what is before, however many entries are added behind.
	h.useMany(ids[20:], h.runtime)
	result, err := rollup.DrainFrom(t.Context(), db, shards, []int64{middle}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_daily_dirty`); n > 0 {
		t.Errorf("%d entries are left, %d were counted", n, result.Entries)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

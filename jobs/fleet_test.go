package jobs

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/internal/testlog"
	"daybook/queries"
)

// setup returns a database and a fleet on it that is not started, and what it logs.
func setup(t *testing.T) (*pgxpool.Pool, *Fleet, *testlog.Buffer) {
	t.Helper()
	pool := testdb.New(t)
	fleet, log := newFleet(t, pool)
	return pool, fleet, log
}

func newFleet(t *testing.T, pool *pgxpool.Pool) (*Fleet, *testlog.Buffer) {
	t.Helper()
	log := new(testlog.Buffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	fleet, err := New(Config{Pool: testdb.Open(t, pool), Logger: slog.New(slog.NewTextHandler(log, nil)), Tick: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return fleet, log
}

func start(t *testing.T, fleet *Fleet) {
	t.Helper()
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := fleet.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func number(t *testing.T, pool *pgxpool.Pool, sql string) int {
	t.Helper()
	var n int
	if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// awaitEmpty waits until nothing is left to do; the deadline of the tests ends it.
func awaitEmpty(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		pending, err := history.Pending(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if !pending {
			return
		}
	}
}

func TestFleetsShareTheWork(t *testing.T) {
	t.Parallel()
	pool, first, _ := setup(t)
	second, _ := newFleet(t, pool)
	start(t, first)
	start(t, second)
	if err := history.Play(t.Context(), pool, history.Config{Seed: 11, Transactions: 150}); err != nil {
		t.Fatal(err)
	}
	awaitEmpty(t, pool)
	testdb.RequireExact(t, pool)
}

// The ticks of several processes in one second make one job.
func TestTicksOfOneSecondMakeOneJob(t *testing.T) {
	t.Parallel()
	pool, first, _ := setup(t)
	second, _ := newFleet(t, pool)
	exec(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
		SELECT daybook.shard_of(id), id, now() - interval '1 second' FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 200)) x`)
	for range 5 {
		for _, f := range []*Fleet{first, second} {
			if _, err := f.tick(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
	}
	jobs := number(t, pool, `SELECT count(*) FROM daybook.river_job`)
	distinct := number(t, pool, `SELECT count(DISTINCT args) FROM daybook.river_job`)
	ticks := number(t, pool, `SELECT count(DISTINCT args->>'tick') FROM daybook.river_job`)
	if jobs == 0 || jobs != distinct || jobs != ticks {
		t.Errorf("%d jobs, %d of them distinct, in %d seconds; want one for each second", jobs, distinct, ticks)
	}
}

// Few entries that have just come are left for more to come.
func TestFreshEntriesWait(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		waiting []queries.ListDirtyShardsRow
		want    bool
	}{
		{"nothing", nil, false},
		{"few, just now", []queries.ListDirtyShardsRow{{Entries: 3, Seconds: 0.1}, {Entries: 5, Seconds: 0}}, false},
		{"one of them longer", []queries.ListDirtyShardsRow{{Entries: 3, Seconds: 0.1}, {Entries: 5, Seconds: 0.3}}, true},
		{"enough for a transaction", []queries.ListDirtyShardsRow{{Entries: maxGrouped - 1}, {Entries: 1}}, true},
		{"the clock was set back", []queries.ListDirtyShardsRow{{Entries: 1, Seconds: -60}}, true},
	} {
		if got := isDue(test.waiting); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	pool, fleet, _ := setup(t)
	for _, test := range []struct {
		sql  string
		want bool
	}{
		{`DELETE FROM daybook.task_usage_daily_dirty`, false},
		{`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at) SELECT 0, gen_random_uuid(), now() + interval '1 hour'`, true},
	} {
		exec(t, pool, test.sql)
		if waiting, err := fleet.tick(t.Context(), false); err != nil || waiting != test.want {
			t.Errorf("%s: waiting %v, %v", test.sql, waiting, err)
		}
	}
}

func TestShardsAreGrouped(t *testing.T) {
	t.Parallel()
	waiting := func(entries ...int64) (rows []queries.ListDirtyShardsRow) {
		for shard, n := range entries {
			rows = append(rows, queries.ListDirtyShardsRow{Shard: int16(shard), Entries: n, Seconds: 1, Tick: 7})
		}
		return rows
	}
	for _, test := range []struct {
		name    string
		entries []int64
		want    [][]int16
	}{
		{"nothing", nil, nil},
		{"few entries are one drain", []int64{1, 900, 3, 1000}, [][]int16{{0, 1, 2, 3}}},
		{"many are several", []int64{2000, 2000, 2000, 1, 2000}, [][]int16{{0, 1}, {2, 3}, {4}}},
		{"a shard is never cut", []int64{5000, 1}, [][]int16{{0}, {1}}},
	} {
		var got [][]int16
		for _, g := range groupShards(waiting(test.entries...)) {
			if got = append(got, g.Shards); g.Tick != 7 {
				t.Errorf("%s: tick %d", test.name, g.Tick)
			}
		}
		if !slices.EqualFunc(got, test.want, slices.Equal) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Where the clock is set back, its seconds come a second time, and their jobs too.
func TestDrainsOfAVeryLongQueueAreSpread(t *testing.T) {
	t.Parallel()
	shards := func(length int64) (rows []queries.ListDirtyShardsRow) {
		for shard := range int16(8) {
			rows = append(rows, queries.ListDirtyShardsRow{Shard: shard, Entries: 1000, FirstID: 100, LastID: 100 + length})
		}
		return rows
	}
	for _, test := range []struct {
		name    string
		waiting []queries.ListDirtyShardsRow
		want    [][]int64
	}{
		{"long", shards(veryLong - 1), [][]int64{nil, nil}},
		{"very long", shards(veryLong), [][]int64{nil, {32100, 32100, 32100, 32100}}},
		{"one group", shards(veryLong)[:4], [][]int64{nil}},
		{"one shard that is not", append(shards(veryLong)[:7], shards(0)[7]), [][]int64{nil, nil}},
	} {
		var got [][]int64
		for _, g := range groupShards(test.waiting) {
			got = append(got, g.After)
		}
		if !slices.EqualFunc(got, test.want, slices.Equal) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestJobsOfASecondThatComesAgain(t *testing.T) {
	t.Parallel()
	_, fleet, _ := setup(t)
	for range 2 {
		inserted, err := fleet.client.InsertMany(t.Context(), []river.InsertManyParams{{Args: DrainArgs{Shards: []int16{1}, Tick: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if inserted[0].UniqueSkippedAsDuplicate {
			t.Error("the job of an earlier second of the same number, which is done, keeps the new one out")
		}
		exec(t, fleet.config.Pool, `UPDATE daybook.river_job SET state = 'completed', finalized_at = now()`)
	}
}

// A killed worker leaves its jobs running in River's eyes. Those of later ticks are done all the same, and a requested rebuild
// is taken up again.
func TestJobsOfADeadWorkerBlockNothing(t *testing.T) {
	t.Parallel()
	pool, dead, _ := setup(t)
	if err := history.Play(t.Context(), pool, history.Config{Seed: 12, Transactions: 20}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `INSERT INTO daybook.runtime_rebuild (runtime_id) SELECT id FROM public.agent_runtime`)
	exec(t, pool, `UPDATE daybook.task_usage_daily_dirty SET enqueued_at = enqueued_at - interval '1 second'`)
	if _, err := dead.tick(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE daybook.river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = '{dead}'`)
	alive, _ := newFleet(t, pool)
	start(t, alive)
	awaitEmpty(t, pool)
	testdb.RequireExact(t, pool)
	if n := number(t, pool, `SELECT count(*) FROM daybook.river_job WHERE attempted_by = '{dead}' AND state = 'running'`); n == 0 {
		t.Error("no job of the dead worker is left: the test shows nothing")
	}
}

// What cannot be counted, and zones that Postgres does not know, are told to the operator.
func TestOperatorIsTold(t *testing.T) {
	t.Parallel()
	pool, fleet, log := setup(t)
	exec(t, pool, `
		INSERT INTO public.workspace (slug) VALUES ('acme');
		INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone) SELECT id, 'r', 'p', 'Local' FROM public.workspace;
		INSERT INTO public.agent (workspace_id, runtime_id) SELECT workspace_id, id FROM public.agent_runtime;
		INSERT INTO public.agent_task_queue (agent_id, runtime_id) SELECT id, runtime_id FROM public.agent, generate_series(1, 2);
		INSERT INTO public.task_usage (task_id, provider, model, input_tokens)
			SELECT id, 'p', 'm', 9223372036854775807 FROM public.agent_task_queue;`)
	start(t, fleet)
	awaitEmpty(t, pool)
	// A job logs after it has committed. The deadline of the tests ends the wait.
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for _, want := range []string{"time zone unknown to Postgres; counting in UTC", "timezone=Local", "task quarantined"} {
		for !strings.Contains(log.String(), want) {
			<-ticker.C
		}
	}
	if n := number(t, pool, `SELECT count(*) FROM daybook.task_usage_daily_quarantine`); n != 1 {
		t.Errorf("%d tasks are in quarantine, want one of the two", n)
	}
}

// Where a lock of the host keeps drains from counting, workers must not claim success.
func TestBlockedDrainsAreFailures(t *testing.T) {
	t.Parallel()
	pool, fleet, log := setup(t)
	exec(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) VALUES (0, gen_random_uuid())`)
	host, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer host.Rollback(t.Context())
	if _, err := host.Exec(t.Context(), `LOCK TABLE public.task_usage IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	work := func() {
		t.Helper()
		job := &river.Job[DrainArgs]{JobRow: &rivertype.JobRow{}, Args: DrainArgs{Shards: []int16{0}}}
		if err := (&drainWorker{fleet: fleet}).Work(t.Context(), job); err != nil {
			t.Fatal(err)
		}
	}
	failures := func() float64 { return testutil.ToFloat64(fleet.metrics.failures.WithLabelValues(workDrain)) }
	succeeded := func() float64 { return testutil.ToFloat64(fleet.metrics.succeeded.WithLabelValues(workDrain)) }
	before := succeeded()
	work()
	work()
	if failures() != 2 || succeeded() != before {
		t.Errorf("%v failures, success at %v, want 2 and %v", failures(), succeeded(), before)
	}
	if n := strings.Count(log.String(), "nothing is counted"); n != 1 {
		t.Errorf("it is logged %d times, want once:\n%s", n, log)
	}
	if err := host.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	work()
	if failures() != 2 || succeeded() == before {
		t.Errorf("%v failures, success at %v, want 2 and later than %v", failures(), succeeded(), before)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("a fleet without pool and logger was made")
	}
	if got, want := (Config{DrainWorkers: 8, RebuildWorkers: 1}).Connections(), int32(16); got != want {
		t.Errorf("%d connections, want %d", got, want)
	}
}

// A host that locks a table which drains do not read stops no drain.
func TestLockedRuntimesStopNoDrain(t *testing.T) {
	t.Parallel()
	pool, fleet, _ := setup(t)
	exec(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
		VALUES (daybook.shard_of('00000000-0000-0000-0000-000000000001'), '00000000-0000-0000-0000-000000000001', now() - interval '1 second')`)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE public.agent_runtime IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.tick(t.Context(), true); err == nil {
		t.Error("the search for outdated buckets did not meet the lock: the test shows nothing")
	}
	if n := number(t, pool, `SELECT count(*) FROM daybook.river_job WHERE kind = 'daybook_drain'`); n != 1 {
		t.Errorf("%d drains were asked for, want 1", n)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Rules of time zones are looked at once, and again when they are due; a change is told, and connections are made anew.
func TestZoneRulesAreChecked(t *testing.T) {
	t.Parallel()
	pool, fleet, log := setup(t)
	exec(t, pool, `
		INSERT INTO public.workspace (slug) VALUES ('acme');
		INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone) SELECT id, 'r', 'p', 'Africa/Cairo' FROM public.workspace;
		INSERT INTO public.agent (workspace_id, runtime_id) SELECT workspace_id, id FROM public.agent_runtime;
		INSERT INTO public.agent_task_queue (agent_id, runtime_id) SELECT id, runtime_id FROM public.agent;
		INSERT INTO public.task_usage (task_id, provider, model, created_at) SELECT id, 'p', 'm', '2025-05-01 22:30Z' FROM public.agent_task_queue;`)
	start(t, fleet)
	awaitEmpty(t, pool)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for number(t, pool, `SELECT count(*) FROM daybook.zone_rules`) == 0 {
		// The first look may have been before the runtime was counted.
		exec(t, pool, `UPDATE daybook.zone_check SET checked_at = NULL`)
		<-ticker.C
	}
	exec(t, pool, `
		UPDATE daybook.zone_rules SET fingerprint = 'older';
		UPDATE daybook.task_usage_daily SET bucket_date = '2025-05-01';`)
	for !strings.Contains(log.String(), "the rules of a time zone have changed") {
		// The first look may note its end only now.
		exec(t, pool, `UPDATE daybook.zone_check SET server_started_at = '2025-01-01'`)
		<-ticker.C
	}
	for number(t, pool, `SELECT count(*) FROM daybook.task_usage_daily WHERE bucket_date = '2025-05-02'`) == 0 {
		<-ticker.C
	}
	testdb.RequireExact(t, pool)
}

// What the clock of a worker says does not decide when its jobs are done.
func TestJobsAreDueAtOnce(t *testing.T) {
	t.Parallel()
	pool, fleet, _ := setup(t)
	exec(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at) SELECT 0, gen_random_uuid(), now() - interval '1 second'`)
	if _, err := fleet.tick(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if n := number(t, pool, `SELECT count(*) FROM daybook.river_job WHERE state <> 'available' OR scheduled_at > now() - interval '12 hours'`); n > 0 {
		t.Errorf("%d jobs wait for a time", n)
	}
}

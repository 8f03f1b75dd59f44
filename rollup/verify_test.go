package rollup_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/demo"
	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

// verified verifies everything, and says each difference if there is one.
func verified(ctx context.Context, pool *pgxpool.Pool) (rollup.VerifyResult, string, error) {
	var said strings.Builder
	result, err := rollup.Verify(ctx, pool, rollup.Verification{Difference: func(d rollup.Difference) {
		if said.Len() < 2000 {
			fmt.Fprintf(&said, "%s: expected %s, found %s\n", d.Rollup, d.Expected, d.Found)
		}
	}})
	return result, said.String(), err
}

// A host that writes, and workers that drain, rebuild and backfill, are no reason for a difference.
func TestVerifyFindsNothingOnALiveSystem(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	group, ctx := errgroup.WithContext(t.Context())
	const wanted = 100
	var passes atomic.Int64
	var over atomic.Bool
	config := history.Config{Seed: history.Seed(t), Transactions: 50}
	group.Go(func() error {
		defer over.Store(true)
		for ; passes.Load() < wanted; config.Seed++ {
			if err := play(ctx, pool, pool, config); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		for !over.Load() {
			_, said, err := verified(ctx, pool)
			switch {
			case errors.Is(err, rollup.ErrAllDirty):
			case err != nil:
				return err
			case said != "":
				return errors.New(said)
			default:
				passes.Add(1)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	result, said, err := verified(t.Context(), pool)
	if err != nil || said != "" || result.Runtimes == 0 {
		t.Errorf("%d runtimes, %d passes before, %v; %s", result.Runtimes, passes.Load(), err, said)
	}
	testdb.RequireExact(t, pool)
}

// plants are mistakes that somebody makes by hand, and the tables in which each shows first.
var plants = []struct {
	name, sql string
	shows     []string
}{
	{"a bucket off by one token", `UPDATE daybook.bucket_usage_daily SET output_tokens = output_tokens + 1
		WHERE ctid = (SELECT ctid FROM daybook.bucket_usage_daily ORDER BY runtime_id, bucket_date, name_id LIMIT 1)`, []string{"task_usage_daily"}},
	{"a missing bucket", `DELETE FROM daybook.bucket_usage_by_agent
		WHERE ctid = (SELECT ctid FROM daybook.bucket_usage_by_agent ORDER BY runtime_id, bucket_date, agent_id, name_id LIMIT 1)`, []string{"task_usage_daily_by_agent"}},
	{"a bucket too many", `INSERT INTO daybook.task_usage_daily_by_hour
		SELECT runtime_id, '1999-01-01', 3, 'p', 'm', 1, 1, 1, 1, 1, 1 FROM daybook.runtime_rollup ORDER BY 1 LIMIT 1`, []string{"task_usage_daily_by_hour"}},
	{"a bucket of a runtime that nobody knows", `INSERT INTO daybook.task_usage_daily VALUES (gen_random_uuid(), '1999-01-01', 'p', 'm', 1, 1, 1, 1, 1)`, []string{"task_usage_daily"}},
	{"a task too many in an hour", `UPDATE daybook.task_activity_by_hour SET task_count = task_count + 1`, []string{"task_activity_by_hour"}},
	{"all projects that are off", `UPDATE daybook.workspace_usage_daily_by_agent SET day_task_count = day_task_count + 1`, []string{"workspace_usage_daily_by_agent"}},
	{"tasks of a window that are off", `UPDATE daybook.workspace_usage_daily SET window_task_count = window_task_count + 1`, []string{"workspace_usage_daily"}},
	{"run time that is gone", `DELETE FROM daybook.workspace_run_time_daily`, []string{"workspace_run_time_daily"}},
	{"a fact of another runtime", `INSERT INTO daybook.dimension (workspace_id, runtime_id, agent_id, project_id)
		SELECT DISTINCT workspace_id, (SELECT max(runtime_id::text)::uuid FROM daybook.runtime_rollup), agent_id, project_id FROM daybook.dimension ON CONFLICT DO NOTHING;
		UPDATE daybook.ledger_usage f SET dimension_id = (
			SELECT other.id FROM daybook.dimension d
			JOIN daybook.dimension other ON other.runtime_id = (SELECT max(runtime_id::text)::uuid FROM daybook.runtime_rollup)
				AND (other.workspace_id, other.agent_id, other.project_id) IS NOT DISTINCT FROM (d.workspace_id, d.agent_id, d.project_id)
			WHERE d.id = f.dimension_id)
		WHERE task_id = (SELECT task_id FROM daybook.task_usage_fact WHERE runtime_id <> (SELECT max(runtime_id::text)::uuid FROM daybook.runtime_rollup) ORDER BY 1 LIMIT 1)`,
		[]string{"task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "task_usage_fact"}},
	{"a fact without its task", `INSERT INTO daybook.task_usage_fact
		SELECT gen_random_uuid(), 'p', 'm', workspace_id, runtime_id, agent_id, project_id, 1, 1, 1, 1, created_at FROM daybook.task_usage_fact
		WHERE runtime_id IS NOT NULL AND workspace_id IS NOT NULL LIMIT 1`,
		[]string{"task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "task_usage_fact", "workspace_usage_daily", "workspace_usage_daily_by_agent"}},
	{"a missing fact", `DELETE FROM daybook.task_fact WHERE task_id = (SELECT task_id FROM daybook.task_fact WHERE runtime_id IS NOT NULL AND completed_at IS NULL ORDER BY 1 LIMIT 1)`,
		[]string{"task_activity_by_hour", "task_fact"}},
	{"a wrong zone", `UPDATE daybook.runtime_rollup SET timezone = 'Pacific/Kiritimati' WHERE timezone <> 'Pacific/Kiritimati'`,
		[]string{"runtime_rollup", "task_activity_by_hour", "task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour"}},
	{"a trigger that was off", `BEGIN; SET LOCAL session_replication_role = replica;
		UPDATE public.task_usage SET input_tokens = input_tokens + 5;
		UPDATE public.agent_task_queue SET started_at = started_at - interval '1 hour' WHERE started_at IS NOT NULL; COMMIT`, []string{"task_fact", "task_usage_fact"}},
	{"rows that were loaded with triggers off", `BEGIN; SET LOCAL session_replication_role = replica;
		DELETE FROM public.task_usage WHERE task_id IN (SELECT task_id FROM public.task_usage ORDER BY 1 LIMIT 5); COMMIT`, []string{"task_usage_fact"}},
	{"all buckets gone", `TRUNCATE daybook.bucket_usage_daily, daybook.bucket_usage_by_agent, daybook.bucket_usage_by_hour,
		daybook.bucket_workspace_usage, daybook.bucket_workspace_usage_by_agent`,
		[]string{"task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "workspace_usage_daily", "workspace_usage_daily_by_agent"}},
	{"all facts gone", `TRUNCATE daybook.ledger_usage, daybook.ledger_task`, []string{
		"task_activity_by_hour", "task_fact", "task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour", "task_usage_fact",
		"workspace_run_time_daily", "workspace_usage_daily", "workspace_usage_daily_by_agent",
	}},
}

// filledHost is a host with some usage, all of it counted.
func filledHost(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := testdb.New(t)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 200}); err != nil {
		t.Fatal(err)
	}
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	return pool
}

// driftFound is how many differences have been found so far, by table.
func driftFound(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := queries.New(pool).ListDriftFound(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, r := range rows {
		found[r.Rollup] = int(r.Differences)
	}
	return found
}

func TestPlantedDifferencesAreFoundAndMended(t *testing.T) {
	t.Parallel()
	pool := filledHost(t)
	testdb.RequireExact(t, pool)
	for _, plant := range plants {
		if _, err := pool.Exec(t.Context(), plant.sql); err != nil {
			t.Fatalf("%s: %v", plant.name, err)
		}
		before := driftFound(t, pool)
		result, said, err := verified(t.Context(), pool)
		if err != nil {
			t.Fatalf("%s: %v", plant.name, err)
		}
		after := driftFound(t, pool)
		for table, n := range result.Differences {
			if got := after[table] - before[table]; got != n {
				t.Errorf("%s: %d differences of %s were added to those found so far, want %d", plant.name, got, table, n)
			}
		}
		if got := slices.Sorted(maps.Keys(result.Differences)); !slices.Equal(got, plant.shows) {
			t.Errorf("%s: it shows in %q, want %q:\n%s", plant.name, got, plant.shows, said)
		}
		mended, err := rollup.VerifyAndRepair(t.Context(), pool, rollup.Verification{})
		if err != nil || len(mended.Left.Differences) > 0 {
			t.Fatalf("%s: %+v, %v", plant.name, mended, err)
		}
		testdb.RequireExact(t, pool)
	}
}

// All at once, while the host writes and workers work.
func TestRepairOnALiveSystem(t *testing.T) {
	t.Parallel()
	pool := filledHost(t)
	for _, plant := range plants {
		if _, err := pool.Exec(t.Context(), plant.sql); err != nil {
			t.Fatalf("%s: %v", plant.name, err)
		}
	}
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error {
		return play(ctx, pool, pool, history.Config{Seed: history.Seed(t), Transactions: 60, KeepOthers: true})
	})
	group.Go(func() error {
		result, err := rollup.VerifyAndRepair(ctx, pool, rollup.Verification{})
		if err == nil && len(result.Left.Differences) > 0 {
			err = fmt.Errorf("%+v is left", result)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, pool)
}

func TestVerifySomeOfIt(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Tokyo")
	task := h.newTask()
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'a', 'm', 5, '2025-05-01')`, task)
	h.settle()
	h.exec(`UPDATE daybook.task_usage_daily SET input_tokens = 6`)
	h.exec(`UPDATE daybook.workspace_usage_daily SET input_tokens = 6`)
	id := func(s string) pgtype.UUID {
		var u pgtype.UUID
		if err := u.Scan(s); err != nil {
			t.Fatal(err)
		}
		return u
	}
	nobody := id("00000000-0000-4000-8000-0000000000ff")
	for _, test := range []struct {
		name string
		v    rollup.Verification
		want []string
	}{
		{"everything", rollup.Verification{}, []string{"task_usage_daily", "workspace_usage_daily"}},
		{"the runtime", rollup.Verification{Runtimes: []pgtype.UUID{h.runtime}}, []string{"task_usage_daily"}},
		{"the workspace", rollup.Verification{Workspaces: []pgtype.UUID{h.workspace}}, []string{"task_usage_daily", "workspace_usage_daily"}},
	} {
		result, err := rollup.Verify(t.Context(), h.pool, test.v)
		if got := slices.Sorted(maps.Keys(result.Differences)); err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q, %v", test.name, got, test.want, err)
		}
	}
	for name, v := range map[string]rollup.Verification{
		"runtime": {Runtimes: []pgtype.UUID{h.runtime, nobody}}, "workspace": {Workspaces: []pgtype.UUID{h.workspace, nobody}},
	} {
		if _, err := rollup.Verify(t.Context(), h.pool, v); !errors.Is(err, rollup.ErrUnknownUnit) || !strings.Contains(err.Error(), nobody.String()) {
			t.Errorf("a %s that nobody knows: %v", name, err)
		}
	}
	// A task without a runtime is its workspace's too.
	h.exec(`UPDATE public.agent_task_queue SET runtime_id = NULL`)
	h.settle()
	if _, err := rollup.VerifyAndRepair(t.Context(), h.pool, rollup.Verification{}); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, h.pool)
	h.exec(`UPDATE daybook.task_usage_fact SET input_tokens = 70`)
	result, err := rollup.Verify(t.Context(), h.pool, rollup.Verification{Workspaces: []pgtype.UUID{h.workspace}})
	if err != nil || result.Differences["task_usage_fact"] != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// A count of the source that does not fit keeps nobody from being verified. It is in quarantine, and the result says so.
func TestVerifyBesideATaskThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Tokyo")
	good, bad := h.newTask(), h.newTask()
	h.exec(`ALTER TABLE public.task_usage ALTER input_tokens TYPE numeric`)
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES
		($1, 'a', 'm', 5, '2025-05-01'), ($2, 'a', 'm', 5, '2025-05-01')`, good, bad)
	h.settle()
	h.exec(`BEGIN; SET LOCAL session_replication_role = replica; UPDATE public.task_usage SET input_tokens = 1e20 WHERE task_id = '` + bad.String() + `'; COMMIT`)
	result, said, err := verified(t.Context(), h.pool)
	if err != nil || result.Differences["task_usage_fact"] != 1 {
		t.Fatalf("%+v, %v: %s", result, err, said)
	}
	repaired, err := rollup.VerifyAndRepair(t.Context(), h.pool, rollup.Verification{})
	if err != nil || repaired.Quarantined != 1 || repaired.Left.Quarantined != 1 || len(repaired.Left.Differences) != 0 {
		t.Errorf("%+v, %v", repaired, err)
	}
}

// A sample takes those that have waited longest, and gets round.
func TestSamplesGoRound(t *testing.T) {
	t.Parallel()
	pool := filledHost(t)
	count := func(sql string) (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	units := count(`SELECT count(*) + 1 FROM public.agent_runtime`)
	// A third of the period has passed between two samples.
	sample := func() rollup.RepairResult {
		t.Helper()
		result, err := rollup.VerifySample(t.Context(), pool, rollup.Sample{Period: 3 * time.Hour, Every: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO daybook.verification (unit, attempted_at, verified_at) VALUES (gen_random_uuid(), now(), now())`); err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < units; {
		sample()
		now := count(`SELECT count(*) FROM daybook.verification`)
		if now <= seen || now > seen+(units+2)/3 {
			t.Fatalf("%d of %d were verified, %d before", now, units, seen)
		}
		seen = now
	}
	// What was asked for stays first until it is verified, also when the time is spent before its turn.
	if _, err := pool.Exec(t.Context(), `UPDATE daybook.verification SET attempted_at = '-infinity', verified_at = NULL`); err != nil {
		t.Fatal(err)
	}
	spent := rollup.Sample{Period: 3 * time.Hour, Every: time.Hour, Enough: func() bool { return true }}
	if _, err := rollup.VerifySample(t.Context(), pool, spent); err != nil {
		t.Fatal(err)
	}
	sample()
	if n := count(`SELECT count(*) FROM daybook.verification WHERE verified_at IS NULL`); n != 0 {
		t.Errorf("%d of those that were asked for were not verified", n)
	}
	// Nobody is due, so a mistake stays until one is.
	if _, err := pool.Exec(t.Context(), `UPDATE daybook.task_usage_daily SET input_tokens = input_tokens + 1`); err != nil {
		t.Fatal(err)
	}
	if result := sample(); result.Runtimes != 0 || result.Left.Runtimes != 0 {
		t.Errorf("%+v, though nobody is due", result)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE daybook.verification SET attempted_at = now() - interval '4 hours', verified_at = now() - interval '4 hours'`); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sample()
	}
	testdb.RequireExact(t, pool)
	if n := count(`SELECT count(*) FROM daybook.verification WHERE verified_at < now() - interval '1 hour' OR differences <> '{}'`); n != 0 {
		t.Errorf("%d were not verified again", n)
	}
}

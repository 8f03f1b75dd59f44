package rollup_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/rollup"
)

// daysAgo returns midnight UTC of a day.
func daysAgo(n int) time.Time {
	return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -n)
}

// closedBuckets is every bucket of usage of a closed day, as one text.
func closedBuckets(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	return scalar[string](t, pool, `
		SELECT coalesce(string_agg(bucket, E'\n' ORDER BY bucket), '')
		FROM (
			SELECT 'daily ' || to_jsonb(b)::text AS bucket, bucket_date FROM daybook.task_usage_daily b
			UNION ALL SELECT 'by agent ' || to_jsonb(b)::text, bucket_date FROM daybook.task_usage_daily_by_agent b
			UNION ALL SELECT 'by hour ' || to_jsonb(b)::text, bucket_date FROM daybook.task_usage_daily_by_hour b
			UNION ALL SELECT 'workspace ' || to_jsonb(b)::text, bucket_date FROM daybook.workspace_usage_daily b
			UNION ALL SELECT 'workspace by agent ' || to_jsonb(b)::text, bucket_date FROM daybook.workspace_usage_daily_by_agent b
		) x
		WHERE bucket_date < (SELECT closed_before FROM daybook.coverage)`)
}

// Days that are closed keep their buckets, whatever the host does to their usage; what is not of those days is counted as ever.
func TestClosedDaysStayAsTheyAre(t *testing.T) {
	t.Parallel()
	h := setup(t, "Asia/Kolkata")
	other := h.newRuntime("America/New_York")
	old, mixed, gone, fresh := h.newTask(), h.newTask(), h.newTask(), h.newTask()
	h.exec(`UPDATE public.agent_task_queue SET status = 'completed', started_at = now() - interval '600 days', completed_at = now() - interval '599 days' WHERE id <> $1`, fresh)
	for _, task := range []any{old, mixed, gone} {
		h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'p', 'm', 10, now() - interval '600 days')`, task)
	}
	h.use(mixed, "q", "now")
	h.use(fresh, "p", "now")
	h.settle()
	testdb.RequireExact(t, h.pool)

	if _, err := rollup.Prune(t.Context(), h.pool, daysAgo(rollup.MinOpenDays-1), nil); !errors.Is(err, rollup.ErrTooRecent) {
		t.Fatalf("days that are served were closed: %v", err)
	}
	if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_fact`); n != 5 {
		t.Fatalf("%d facts are left, want all 5", n)
	}
	before := daysAgo(rollup.MinOpenDays)
	result, err := rollup.Prune(t.Context(), h.pool, before, nil)
	if err != nil || result.Facts != 3 || !result.ClosedBefore.Equal(before) {
		t.Fatalf("%+v, %v; want 3 facts removed and days before %s closed", result, err, before)
	}
	if result, err := rollup.Prune(t.Context(), h.pool, daysAgo(900), nil); err != nil || result.Facts != 0 || !result.ClosedBefore.Equal(before) {
		t.Errorf("closed days opened again: %+v, %v", result, err)
	}
	closed := closedBuckets(t, h.pool)
	if closed == "" {
		t.Fatal("no bucket is closed: the test shows nothing")
	}
	for _, step := range []struct {
		name    string
		sql     string
		args    []any
		refused bool
	}{
		{"old usage overwritten", `UPDATE public.task_usage SET input_tokens = 99 WHERE task_id = $1`, []any{old}, true},
		{"old usage added", `INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'late', 'm', 10, now() - interval '600 days')`, []any{fresh}, true},
		{"that usage moved to today", `UPDATE public.task_usage SET created_at = now() WHERE provider = 'late'`, nil, false},
		{"mixed usage overwritten", `UPDATE public.task_usage SET input_tokens = 77 WHERE task_id = $1`, []any{mixed}, true},
		{"old and mixed task moved", `UPDATE public.agent_task_queue SET runtime_id = $1`, []any{other}, true},
		{"old task deleted", `DELETE FROM public.agent_task_queue WHERE id = $1`, []any{gone}, true},
		{"zone changed", `UPDATE public.agent_runtime SET timezone = 'Pacific/Kiritimati'`, nil, false},
		{"new usage", `INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES ($1, 'new', 'm', 10)`, []any{fresh}, false},
		{"new task deleted", `DELETE FROM public.agent_task_queue WHERE id = $1`, []any{fresh}, false},
	} {
		counted := scalar[int](t, h.pool, `SELECT tasks FROM daybook.refused_change`)
		h.exec(step.sql, step.args...)
		h.settle()
		if refused := scalar[int](t, h.pool, `SELECT tasks FROM daybook.refused_change`) > counted; refused != step.refused {
			t.Errorf("%s: refused: %t, want %t", step.name, refused, step.refused)
		}
		if got := closedBuckets(t, h.pool); got != closed {
			t.Errorf("%s: closed buckets are\n%s\nwant\n%s", step.name, got, closed)
		}
		t.Log(step.name)
		testdb.RequireExact(t, h.pool)
		verify, err := rollup.Verify(t.Context(), h.pool, rollup.Verification{})
		if err != nil || len(verify.Differences) > 0 {
			t.Errorf("%s: verify: %v, %v", step.name, verify.Differences, err)
		}
	}

	h.exec(`DELETE FROM daybook.workspace_usage_daily WHERE bucket_date >= (SELECT closed_before FROM daybook.coverage)`)
	if _, err := rollup.VerifyAndRepair(t.Context(), h.pool, rollup.Verification{}); err != nil {
		t.Fatal(err)
	}
	if err := rollup.Backfill(t.Context(), h.pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	if got := closedBuckets(t, h.pool); got != closed {
		t.Errorf("after a repair and a backfill closed buckets are\n%s\nwant\n%s", got, closed)
	}
	testdb.RequireExact(t, h.pool)
}

// A host that goes on writing about days that are being closed.
func TestDaysAreClosedUnderLoad(t *testing.T) {
	t.Parallel()
	seed := history.Seed(t)
	pool := testdb.New(t)
	before := daysAgo(rollup.MinOpenDays)
	config := history.Config{Seed: seed, Transactions: 100, Start: before.AddDate(0, 0, -7)}
	if err := play(t.Context(), pool, pool, config); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, pool)
	done := make(chan error)
	go func() {
		_, err := rollup.Prune(t.Context(), pool, before, nil)
		done <- err
	}()
	config.Seed++
	if err := errors.Join(play(t.Context(), pool, pool, config), <-done); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, pool)
	closed := closedBuckets(t, pool)
	config.Seed++
	if err := play(t.Context(), pool, pool, config); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, pool)
	requireNeverBelowZero(t, pool)
	if got := closedBuckets(t, pool); got != closed {
		t.Errorf("closed buckets changed from\n%s\nto\n%s", closed, got)
	}
}

// Of a zone whose rules have changed, the runtimes whose buckets they change are rebuilt, and no others.
func TestChangedZoneRules(t *testing.T) {
	t.Parallel()
	h := setup(t, "Africa/Cairo")
	untouched, elsewhere := h.newRuntime("Africa/Cairo"), h.newRuntime("Asia/Tokyo")
	for _, runtime := range []any{h.runtime, untouched, elsewhere} {
		task := h.newTask()
		h.exec(`UPDATE public.agent_task_queue SET runtime_id = $2 WHERE id = $1`, task, runtime)
		h.use(task, "p", "2025-05-01 22:30Z")
	}
	h.settle()
	check := func() []rollup.ChangedRules {
		t.Helper()
		changed, err := rollup.CheckZoneRules(t.Context(), h.pool)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	if changed := check(); len(changed) > 0 {
		t.Fatalf("zones that are seen for the first time count as changed: %v", changed)
	}
	// As if Cairo's clocks had been an hour behind what is known now, on one day.
	h.exec(`UPDATE daybook.zone_rules SET fingerprint = 'older' WHERE timezone = 'Africa/Cairo'`)
	h.exec(`UPDATE daybook.task_usage_daily SET bucket_date = '2025-05-01' WHERE runtime_id = $1`, h.runtime)
	changed := check()
	if len(changed) != 1 || changed[0].Timezone != "Africa/Cairo" || len(changed[0].Runtimes) != 1 || changed[0].Runtimes[0] != h.runtime {
		t.Errorf("changed: %v, want the first runtime in Cairo", changed)
	}
	rebuilt := func() []string {
		return scalar[[]string](t, h.pool, `SELECT coalesce(array_agg(DISTINCT runtime_id::text), '{}') FROM daybook.runtime_rebuild`)
	}
	if got, want := rebuilt(), []string{h.runtime.String()}; !slices.Equal(got, want) {
		t.Errorf("rebuilds requested of %v, want %v", got, want)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
	if changed := check(); len(changed) > 0 {
		t.Errorf("noted rules count as changed: %v", changed)
	}

	// A zone that Postgres learns, and one that it forgets.
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Local' WHERE id = $1`, elsewhere)
	h.settle()
	h.exec(`UPDATE daybook.runtime_rollup SET host_timezone = 'Asia/Tokyo' WHERE runtime_id = $1`, elsewhere)
	h.exec(`ALTER TABLE public.agent_runtime DISABLE TRIGGER USER`)
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = $1`, elsewhere)
	check()
	if got, want := rebuilt(), []string{elsewhere.String()}; !slices.Equal(got, want) {
		t.Errorf("rebuilds requested of %v, want %v, whose zone is known now", got, want)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
	h.exec(`UPDATE daybook.runtime_rollup SET timezone = 'Gone/Zone', host_timezone = 'Gone/Zone' WHERE runtime_id = $1`, untouched)
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Gone/Zone' WHERE id = $1`, untouched)
	check()
	if got, want := rebuilt(), []string{untouched.String()}; !slices.Equal(got, want) {
		t.Errorf("rebuilds requested of %v, want %v, whose zone is not known any more", got, want)
	}
}

// Of several checks at once only one says that rules have changed, and only its change is counted.
func TestChangedZoneRulesAreSaidOnce(t *testing.T) {
	t.Parallel()
	h := setup(t, "Africa/Cairo")
	h.use(h.newTask(), "p", "2025-05-01 22:30Z")
	h.settle()
	if _, err := rollup.CheckZoneRules(t.Context(), h.pool); err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		h.exec(`UPDATE daybook.zone_rules SET fingerprint = 'older'`)
		var group errgroup.Group
		var said atomic.Int64
		for range 4 {
			group.Go(func() error {
				changed, err := rollup.CheckZoneRules(t.Context(), h.pool)
				said.Add(int64(len(changed)))
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if said.Load() != 1 {
			t.Errorf("%d checks said that rules have changed, want 1", said.Load())
		}
		if got := scalar[int](t, h.pool, `SELECT revision FROM daybook.zone_check`); got != n+1 {
			t.Errorf("after %d changes of rules the revision is %d", n+1, got)
		}
	}
}

// A zone that Postgres does not know any more keeps drains waiting for the rebuild, and no task is to blame.
func TestZoneThatIsForgotten(t *testing.T) {
	t.Parallel()
	h := setup(t, "Gone/Zone")
	task := h.newTask()
	h.use(task, "p", "2025-05-01 22:30Z")
	h.settle()
	h.exec(`UPDATE daybook.runtime_rollup SET timezone = 'Gone/Zone'`)
	h.use(task, "q", "2025-05-01 22:30Z")
	if r := h.drainAll(h.pool); !r.Busy || len(r.Quarantined) > 0 {
		t.Errorf("busy: %t, quarantined: %v", r.Busy, r.Quarantined)
	}
	if r := h.settle(); len(r.Quarantined) > 0 {
		t.Errorf("quarantined: %v", r.Quarantined)
	}
	testdb.RequireExact(t, h.pool)
}

// The fingerprint is of the rules and not of the name, and sees a change of one hour on one day.
func TestZoneFingerprint(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	of := func(zone string) string {
		return scalar[string](t, h.pool, `SELECT daybook.zone_fingerprint($1)`, zone)
	}
	for _, same := range [][2]string{{"UTC", "Etc/UTC"}, {"Asia/Calcutta", "Asia/Kolkata"}} {
		if of(same[0]) != of(same[1]) {
			t.Errorf("%s and %s have the same rules, and not the same fingerprint", same[0], same[1])
		}
	}
	// Berlin and Paris differ in some weeks before 1980, Lord Howe's clocks change by half an hour.
	seen := make(map[string]string)
	for _, zone := range []string{"UTC", "Asia/Kolkata", "Europe/Berlin", "Europe/Paris", "Africa/Cairo", "Australia/Lord_Howe", "Australia/Sydney", "No/Such"} {
		if other, ok := seen[of(zone)]; ok {
			t.Errorf("%s and %s have one fingerprint", zone, other)
		}
		seen[of(zone)] = zone
	}
	if of("No/Such") != "unknown" {
		t.Errorf("the fingerprint of no zone is %q", of("No/Such"))
	}
	h.exec(`SET TIME ZONE 'America/Havana'`)
	if seen[of("Africa/Cairo")] == "" {
		t.Error("the fingerprint depends on the zone of the session")
	}
}

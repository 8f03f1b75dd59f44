package httpapi_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/queries"
)

func TestRollupMetrics(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	collector := httpapi.NewRollupCollector(pool, slog.New(slog.DiscardHandler))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)

	expect := func(want string, names ...string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), names...); err != nil {
			t.Error(err)
		}
	}
	// All but daybook_cleanup_held_seconds: other tests have transactions.
	expect(`
# HELP daybook_backfill_complete 1 if a backfill has been completed since the triggers were put on, else 0: old usage is missing.
# TYPE daybook_backfill_complete gauge
daybook_backfill_complete 1
# HELP daybook_dirty_entries Changes waiting to be counted. Counted up to 10000.
# TYPE daybook_dirty_entries gauge
daybook_dirty_entries 0
# HELP daybook_drift_differences Differences from the source that the last verifications found, by table.
# TYPE daybook_drift_differences gauge
daybook_drift_differences{table="runtime_rollup"} 0
daybook_drift_differences{table="task_activity_by_hour"} 0
daybook_drift_differences{table="task_fact"} 0
daybook_drift_differences{table="task_usage_daily"} 0
daybook_drift_differences{table="task_usage_daily_by_agent"} 0
daybook_drift_differences{table="task_usage_daily_by_hour"} 0
daybook_drift_differences{table="task_usage_fact"} 0
daybook_drift_differences{table="workspace_run_time_daily"} 0
daybook_drift_differences{table="workspace_usage_daily"} 0
daybook_drift_differences{table="workspace_usage_daily_by_agent"} 0
# HELP daybook_drift_found_total Differences from the source that verifications have found so far, by table. What is found again counts again.
# TYPE daybook_drift_found_total counter
daybook_drift_found_total{table="runtime_rollup"} 0
daybook_drift_found_total{table="task_activity_by_hour"} 0
daybook_drift_found_total{table="task_fact"} 0
daybook_drift_found_total{table="task_usage_daily"} 0
daybook_drift_found_total{table="task_usage_daily_by_agent"} 0
daybook_drift_found_total{table="task_usage_daily_by_hour"} 0
daybook_drift_found_total{table="task_usage_fact"} 0
daybook_drift_found_total{table="workspace_run_time_daily"} 0
daybook_drift_found_total{table="workspace_usage_daily"} 0
daybook_drift_found_total{table="workspace_usage_daily_by_agent"} 0
# HELP daybook_quarantined_tasks Tasks that cannot be counted as they are.
# TYPE daybook_quarantined_tasks gauge
daybook_quarantined_tasks 0
# HELP daybook_rebuild_oldest_seconds Age of the oldest request for a rebuild; 0 if there is none.
# TYPE daybook_rebuild_oldest_seconds gauge
daybook_rebuild_oldest_seconds 0
# HELP daybook_rebuilds_pending Runtimes whose rebuild is requested and not done.
# TYPE daybook_rebuilds_pending gauge
daybook_rebuilds_pending 0
# HELP daybook_refused_changes_total Changed tasks that have usage of days that are closed; that usage stays as it was counted.
# TYPE daybook_refused_changes_total counter
daybook_refused_changes_total 0
# HELP daybook_rollup_lag_seconds Age of the oldest committed change that no rollup counts yet, by the database's clock. Absent if the database cannot tell, and while triggers are off or a backfill is due.
# TYPE daybook_rollup_lag_seconds gauge
daybook_rollup_lag_seconds 0
# HELP daybook_rollup_up 1 if the database could be asked for the state of the rollups at this scrape, else 0.
# TYPE daybook_rollup_up gauge
daybook_rollup_up 1
# HELP daybook_triggers_attached 1 if every trigger is on the host's tables, else 0: changes are not counted.
# TYPE daybook_triggers_attached gauge
daybook_triggers_attached 1
# HELP daybook_verified_runtimes Runtimes that have been verified.
# TYPE daybook_verified_runtimes gauge
daybook_verified_runtimes 0
# HELP daybook_workers Worker processes whose sign of life is not late.
# TYPE daybook_workers gauge
daybook_workers 0
# HELP daybook_zones_rejected Runtimes whose time zone Postgres does not know; they count in UTC.
# TYPE daybook_zones_rejected gauge
daybook_zones_rejected 0
`,
		"daybook_backfill_complete", "daybook_dirty_entries", "daybook_drift_differences", "daybook_drift_found_total", "daybook_quarantined_tasks",
		"daybook_rebuild_oldest_seconds", "daybook_rebuilds_pending", "daybook_refused_changes_total", "daybook_rollup_lag_seconds",
		"daybook_rollup_up", "daybook_triggers_attached", "daybook_verified_runtimes", "daybook_verify_pass_age_seconds", "daybook_workers",
		"daybook_zones_rejected",
	)

	// Entries of an hour ago, more than are counted.
	_, err := pool.Exec(t.Context(), `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at)
		SELECT daybook.shard_of(id), id, now() - interval '1 hour' FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 10100)) x`)
	if err != nil {
		t.Fatal(err)
	}
	expect(`
# HELP daybook_dirty_entries Changes waiting to be counted. Counted up to 10000.
# TYPE daybook_dirty_entries gauge
daybook_dirty_entries 10000
`, "daybook_dirty_entries")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if lag := f.GetMetric()[0].GetGauge().GetValue(); f.GetName() == "daybook_rollup_lag_seconds" && lag < 3600 {
			t.Errorf("lag is %v s, want an hour or more", lag)
		}
	}

	// A database that cannot be asked.
	pool.Close()
	expect(`
# HELP daybook_rollup_up 1 if the database could be asked for the state of the rollups at this scrape, else 0.
# TYPE daybook_rollup_up gauge
daybook_rollup_up 0
`)
}

// A transaction that has written and stands idle has no snapshot, and still keeps Postgres from cleaning up.
func TestIdleWritersHoldBackCleanup(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	if _, err := tx.Exec(t.Context(), `INSERT INTO public.workspace (slug) VALUES ('held')`); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	// Transactions of other tests do not last for long.
	for age := 0.0; age < 3; <-look.C {
		if err := pool.QueryRow(t.Context(), `SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'idle in transaction'`).Scan(&age); err != nil {
			t.Fatal(err)
		}
	}
	held, err := queries.New(pool).GetCleanupHeld(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if held.Seconds < 3 || held.Pid == 0 || !held.Visible {
		t.Errorf("the oldest transaction is said to be %+v, want one of 3 s at least", held)
	}
}

func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(setup(t).api.Metrics())
	t.Cleanup(server.Close)
	for path, want := range map[string]string{"/metrics": "daybook_rollup_lag_seconds 0", "/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ok"}`} {
		a, err := sendRaw(t.Context(), http.MethodGet, server.URL+path, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusOK || !strings.Contains(a.body, want) {
			t.Errorf("%s: status is %d, without %q", path, a.status, want)
		}
	}
}

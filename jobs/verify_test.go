package jobs

import (
	"strings"
	"testing"
	"time"

	"github.com/riverqueue/river"

	"daybook/internal/demo"
	"daybook/internal/testdb"
	"daybook/rollup"
)

// A running fleet finds what somebody changed by hand, says so, and mends it. Before everything is counted it compares nothing.
func TestFleetsRepairWhatDiffers(t *testing.T) {
	t.Parallel()
	pool, fleet, log := setup(t)
	fleet.config.VerifyPeriod = time.Minute
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 200}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE daybook.coverage SET backfill_finished_at = NULL`)
	worker := &verifyWorker{fleet: fleet}
	if err := worker.Work(t.Context(), &river.Job[VerifyArgs]{}); err != nil {
		t.Fatal(err)
	}
	if n := number(t, pool, `SELECT count(*) FROM daybook.verification`); n != 0 {
		t.Errorf("%d were verified before a backfill", n)
	}
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE daybook.task_usage_daily SET input_tokens = input_tokens + 1`)
	exec(t, pool, `DELETE FROM daybook.workspace_usage_daily`)
	exec(t, pool, `DELETE FROM daybook.task_fact`)
	start(t, fleet)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range ticker.C {
		differences, err := testdb.Differences(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if len(differences) == 0 && strings.Contains(log.String(), "rollups differed") {
			break
		}
	}
	// What was found stays counted when it is mended.
	if n := number(t, pool, `SELECT count(*) FROM daybook.verification WHERE differences <> '{}'`); n != 0 {
		t.Errorf("%d units still differ", n)
	}
	for _, table := range []string{"task_usage_daily", "workspace_usage_daily", "task_fact"} {
		if n := number(t, pool, `SELECT coalesce(sum(differences), 0) FROM daybook.drift_found WHERE rollup = '`+table+`'`); n == 0 {
			t.Errorf("no differences of %s are counted", table)
		}
	}
	for _, said := range []string{"a rollup differs; repairing it", "table=task_usage_daily", "left=map[]"} {
		if !strings.Contains(log.String(), said) {
			t.Errorf("the log does not say %q", said)
		}
	}
}

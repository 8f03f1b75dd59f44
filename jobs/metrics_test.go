package jobs

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"daybook/internal/demo"
)

// gather returns the metrics of a fleet by name.
func gather(t *testing.T, fleet *Fleet) map[string]*dto.MetricFamily {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(fleet)
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		byName[f.GetName()] = f
	}
	return byName
}

// value returns that of the metric whose labels have these values, in the order of the labels' names; -1 if there is none.
func value(family *dto.MetricFamily, labels ...string) float64 {
metrics:
	for _, m := range family.GetMetric() {
		for i, want := range labels {
			if m.GetLabel()[i].GetValue() != want {
				continue metrics
			}
		}
		return m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return -1
}

func TestMetricsOfTheWork(t *testing.T) {
	t.Parallel()
	pool, fleet, _ := setup(t)
	before := gather(t, fleet)
	if n := value(before["daybook_last_success_timestamp_seconds"], workDrain); n != 0 {
		t.Errorf("drains succeeded at %v, before the start", n)
	}
	if fleet.Ready() == nil {
		t.Error("it is ready before the start")
	}
	start(t, fleet)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 300, Days: 5}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE public.agent_task_queue SET started_at = 'infinity' WHERE id = (SELECT id FROM public.agent_task_queue LIMIT 1)`)
	exec(t, pool, `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`)
	awaitEmpty(t, pool)

	// Jobs are counted when River says that they have ended, which is some moments later.
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var after map[string]*dto.MetricFamily
	for range ticker.C {
		after = gather(t, fleet)
		ended := after["daybook_river_jobs_total"]
		if value(ended, "daybook_rebuild", "completed") > 0 && value(ended, "daybook_drain", "completed") > 0 {
			break
		}
	}
	entries := value(after["daybook_drained_entries_total"])
	freshness := after["daybook_freshness_seconds"].GetMetric()[0].GetHistogram()
	if entries == 0 || float64(freshness.GetSampleCount()) != entries || freshness.GetSampleSum() <= 0 {
		t.Errorf("%v entries drained, of %d there is a freshness, %v s in all", entries, freshness.GetSampleCount(), freshness.GetSampleSum())
	}
	if tasks := value(after["daybook_drained_tasks_total"]); tasks <= 0 || tasks > entries {
		t.Errorf("%v tasks of %v entries", tasks, entries)
	}
	for _, name := range []string{"daybook_drain_batch_duration_seconds", "daybook_rebuild_duration_seconds"} {
		if h := after[name].GetMetric()[0].GetHistogram(); h.GetSampleCount() == 0 || h.GetSampleSum() <= 0 {
			t.Errorf("%s has %d samples of %v s in all", name, h.GetSampleCount(), h.GetSampleSum())
		}
	}
	if n, want := value(after["daybook_quarantines_total"]), number(t, pool, `SELECT count(*) FROM daybook.task_usage_daily_quarantine`); n < float64(want) || want == 0 {
		t.Errorf("%v tasks were put into quarantine, where %d are", n, want)
	}
	for _, work := range []string{workTick, workDrain, workRebuild} {
		if value(after["daybook_last_success_timestamp_seconds"], work) <= 0 {
			t.Errorf("%s has not succeeded", work)
		}
	}
	if value(after["daybook_river_up"]) != 1 || value(after["daybook_river_queue_jobs"], queueRebuild, "available") < 0 {
		t.Error("River's queues are not there")
	}
	if err := fleet.Ready(); err != nil {
		t.Error(err)
	}
}

// What cannot be asked is absent, and not as it was.
func TestMetricsWithoutADatabase(t *testing.T) {
	t.Parallel()
	_, fleet, _ := setup(t)
	fleet.config.Pool.Close()
	metrics := gather(t, fleet)
	if value(metrics["daybook_river_up"]) != 0 || metrics["daybook_river_queue_jobs"] != nil {
		t.Errorf("%v, %v", metrics["daybook_river_up"], metrics["daybook_river_queue_jobs"])
	}
	for range maxMisses {
		_, err := fleet.tick(t.Context(), false)
		if err == nil {
			t.Fatal("a tick succeeded")
		}
		fleet.metrics.ended(workTick, false, err)
	}
	if n := value(gather(t, fleet)["daybook_work_failures_total"], workTick); n != maxMisses {
		t.Errorf("%v failures, want %d", n, maxMisses)
	}
}

package main

import (
	"math"
	"strings"
	"testing"
)

const scraped = `# HELP daybook_drained_entries_total Dirty entries that this worker counted and deleted.
# TYPE daybook_drained_entries_total counter
daybook_drained_entries_total 1.2e+06
# TYPE daybook_drained_tasks_total counter
daybook_drained_tasks_total 700
# TYPE daybook_freshness_seconds histogram
daybook_freshness_seconds_bucket{le="0.5"} 40
daybook_freshness_seconds_bucket{le="1"} 90
daybook_freshness_seconds_bucket{le="2"} 99
daybook_freshness_seconds_bucket{le="+Inf"} 100
daybook_freshness_seconds_sum 70
daybook_freshness_seconds_count 100
# TYPE daybook_drain_batch_duration_seconds histogram
daybook_drain_batch_duration_seconds_bucket{le="0.1"} 3
daybook_drain_batch_duration_seconds_bucket{le="+Inf"} 4
daybook_drain_batch_duration_seconds_sum 0.6
daybook_drain_batch_duration_seconds_count 4
# TYPE river_up gauge
river_up 1
`

func TestParseCounters(t *testing.T) {
	t.Parallel()
	c, err := parseCounters(strings.NewReader(scraped))
	if err != nil {
		t.Fatal(err)
	}
	if c.entries != 1.2e6 || c.tasks != 700 || c.ages.count != 100 || c.passes.count != 4 || math.Abs(c.passes.mean()-0.15) > 1e-9 {
		t.Errorf("parsed %+v", c)
	}
	for name, text := range map[string]string{
		"a metric is missing": strings.ReplaceAll(scraped, "daybook_drained_tasks_total", "daybook_other_total"),
		"no metrics":          "<html></html>",
	} {
		if _, err := parseCounters(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCountersOfTwoWorkersAndOfATime(t *testing.T) {
	t.Parallel()
	c, err := parseCounters(strings.NewReader(scraped))
	if err != nil {
		t.Fatal(err)
	}
	var both counters
	for range 2 {
		if both, err = both.plus(c); err != nil {
			t.Fatal(err)
		}
	}
	if both.entries != 2.4e6 || both.ages.count != 200 || both.ages.quantile(0.9) != 1 {
		t.Errorf("two workers: %+v", both)
	}
	since, err := both.minus(c)
	if err != nil {
		t.Fatal(err)
	}
	if since.entries != c.entries || since.passes.sum != c.passes.sum || since.ages.quantile(0.5) != c.ages.quantile(0.5) {
		t.Errorf("since: %+v", since)
	}
	if _, err := c.ages.combine(c.passes, 1); err == nil {
		t.Error("histograms of different buckets are added")
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	h := histogram{count: 100, bounds: []float64{0.5, 1, 2, math.Inf(1)}, below: []float64{40, 90, 99, 100}}
	for q, want := range map[float64]float64{0.2: 0.25, 0.4: 0.5, 0.65: 0.75, 0.9: 1, 0.99: 2, 1: 2} {
		if got := h.quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := (histogram{}).quantile(0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing is %v", got)
	}
}

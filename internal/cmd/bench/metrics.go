package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// counters are what the bench reads of a worker's metrics.
type counters struct {
	entries, tasks float64   // that were drained
	ages           histogram // of drained entries, in seconds
	passes         histogram // durations of transactions that drained entries, in seconds
}

func parseCounters(r io.Reader) (counters, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return counters{}, fmt.Errorf("parse metrics: %w", err)
	}
	var c counters
	for name, to := range map[string]*float64{
		"daybook_drained_entries_total": &c.entries,
		"daybook_drained_tasks_total":   &c.tasks,
	} {
		m, err := only(families, name)
		if err != nil {
			return counters{}, err
		}
		*to = m.GetCounter().GetValue()
	}
	for name, to := range map[string]*histogram{
		"daybook_freshness_seconds":            &c.ages,
		"daybook_drain_batch_duration_seconds": &c.passes,
	} {
		m, err := only(families, name)
		if err != nil {
			return counters{}, err
		}
		*to = newHistogram(m.GetHistogram())
	}
	return c, nil
}

func only(families map[string]*dto.MetricFamily, name string) (*dto.Metric, error) {
	metrics := families[name].GetMetric()
	if len(metrics) != 1 {
		return nil, fmt.Errorf("the worker has %d metrics called %s, want 1", len(metrics), name)
	}
	return metrics[0], nil
}

func (c counters) plus(d counters) (counters, error)  { return c.combine(d, 1) }
func (c counters) minus(d counters) (counters, error) { return c.combine(d, -1) }

func (c counters) combine(d counters, sign float64) (counters, error) {
	ages, err := c.ages.combine(d.ages, sign)
	if err != nil {
		return counters{}, err
	}
	passes, err := c.passes.combine(d.passes, sign)
	return counters{c.entries + sign*d.entries, c.tasks + sign*d.tasks, ages, passes}, err
}

// histogram holds for each upper bound how many observations are at most that. The last bound is infinite. The zero value has no bounds.
type histogram struct {
	count, sum    float64
	bounds, below []float64
}

func newHistogram(h *dto.Histogram) histogram {
	out := histogram{count: float64(h.GetSampleCount()), sum: h.GetSampleSum()}
	for _, bucket := range h.GetBucket() {
		out.bounds = append(out.bounds, bucket.GetUpperBound())
		out.below = append(out.below, float64(bucket.GetCumulativeCount()))
	}
	if n := len(out.bounds); n == 0 || !math.IsInf(out.bounds[n-1], 1) {
		out.bounds, out.below = append(out.bounds, math.Inf(1)), append(out.below, out.count)
	}
	return out
}

func (h histogram) combine(other histogram, sign float64) (histogram, error) {
	if len(h.bounds) == 0 {
		h.bounds, h.below = other.bounds, make([]float64, len(other.bounds))
	}
	if len(h.bounds) != len(other.bounds) {
		return histogram{}, errors.New("two histograms have different buckets")
	}
	out := histogram{count: h.count + sign*other.count, sum: h.sum + sign*other.sum, bounds: h.bounds}
	for i := range h.below {
		out.below = append(out.below, h.below[i]+sign*other.below[i])
	}
	return out, nil
}

func (h histogram) mean() float64 { return h.sum / h.count }

// quantile takes the observations of a bucket for evenly spread. What is above the last finite bound counts as that bound. NaN if there are none.
func (h histogram) quantile(q float64) float64 {
	if h.count == 0 {
		return math.NaN()
	}
	rank := q * h.count
	lower, before := 0.0, 0.0
	for i, bound := range h.bounds {
		if h.below[i] >= rank && h.below[i] > before {
			if math.IsInf(bound, 1) {
				return lower
			}
			return lower + (bound-lower)*(rank-before)/(h.below[i]-before)
		}
		if !math.IsInf(bound, 1) {
			lower = bound
		}
		before = h.below[i]
	}
	return lower
}

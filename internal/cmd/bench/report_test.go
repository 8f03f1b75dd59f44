package main

import (
	"math"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wanted  bound
		value   float64
		text    string
		verdict string
	}{
		{atLeast(50, times), 50, "≥ 50", "ok"},
		{atLeast(50, times), 49.999, "≥ 50", "short"},
		{atMost(1.2, times), 1.2, "≤ 1.2", "ok"},
		{atMost(1.2, times), 1.2001, "≤ 1.2", "short"},
		{atMost(0.02, percent), 0, "≤ 2 %", "ok"},
		{atLeast(0.5, percent), 0.49, "≥ 50 %", "short"},
		{atMost(0.7, seconds), 0.65, "≤ 0.7 s", "ok"},
		{atMost(64, mebibytes), 160, "≤ 64 MiB", "short"},
		{atLeast(20_000, aSecond), 31_234, "≥ 20,000 a second", "ok"},
		{atMost(2, seconds), math.NaN(), "≤ 2 s", "short"},
		{bound{}, 7, "", ""},
	} {
		if got := c.wanted.String(); got != c.text {
			t.Errorf("%+v is written %q, want %q", c.wanted, got, c.text)
		}
		if got := c.wanted.verdict(c.value); got != c.verdict {
			t.Errorf("%v where %q is wanted: %q, want %q", c.value, c.text, got, c.verdict)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		number(1.234): "1.23", number(12.34): "12.3", number(999.6): "1,000", number(1234567): "1,234,567", number(math.NaN()): "–",
		number(99.96): "100.0", grouped(-1234): "-1,234", grouped(-123): "-123", grouped(0): "0",
		duration(0.0123): "12.3 ms", duration(0.5): "0.50 s", duration(0): "0.00 ms", rough(999_998): "1 M", rough(4_990_000): "5 M", rough(99_990): "100 k",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMedianAndQuantile(t *testing.T) {
	t.Parallel()
	if got := median([]float64{9, 1, 5}); got != 5 {
		t.Errorf("median of three is %v", got)
	}
	if got := median([]float64{9, 1, 5, 6}); got != 5.5 {
		t.Errorf("median of four is %v", got)
	}
	sorted := []float64{0, 1, 2, 3}
	if p50, p99 := quantile(sorted, 0.5), quantile(sorted, 0.99); p50 != 2 || p99 != 3 {
		t.Errorf("quantiles are %v and %v", p50, p99)
	}
}

// sample is a report that has all that a report can have.
func sample() *report {
	b := &bench{}
	b.report.machine = "Measured here."
	b.note("A note.")
	b.add("idle", result{work: "idle", measured: "1 %", against: "one core", value: 0.01, wanted: atMost(0.02, percent), label: "idle & quiet"})
	b.add("apply",
		result{work: "apply", measured: "10 ms", against: "100 ms", value: 10, wanted: atLeast(50, times), label: "apply"},
		result{work: "apply <recent>", measured: "10 ms", ratio: "2"})
	b.add("freshness", result{work: "lag", measured: "0.6 s", value: 0.6, wanted: atMost(0.7, seconds), label: "lag"})
	b.report.curve = curve{
		rate: 2000, from: 60e9, till: 120e9,
		points: []point{{30e9, 0.2, 1.1}, {60e9, 0.2, 1.2}, {90e9, 0.25, 1.3}, {120e9, 0.28, 1.2}, {150e9, 0.21, 1.1}},
	}
	return &b.report
}

func TestReport(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	sample().write(&got)
	const want = `Measured here.

| work | measured | against | ratio | wanted | verdict |
|---|---|---|--:|--:|---|
| apply | 10 ms | 100 ms | 10.0 | ≥ 50 | short |
| apply <recent> | 10 ms |  | 2 |  |  |
| lag | 0.6 s |  |  | ≤ 0.7 s | ok |
| idle | 1 % | one core | 1.00 % | ≤ 2 % | ok |

A note.
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

func TestSummaryOfCurve(t *testing.T) {
	t.Parallel()
	before, worst, lag := sample().curve.summary()
	if before != 0.2 || worst != 0.28 || lag != 1.3 {
		t.Errorf("before %v, worst %v, lag %v", before, worst, lag)
	}
}

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unit is what a number is of.
type unit int

const (
	times   unit = iota + 1 // a ratio
	percent                 // a ratio, as hundredths
	seconds
	mebibytes
	aSecond
)

func (u unit) format(v float64) string {
	switch u {
	case percent:
		return number(100*v) + " %"
	case seconds:
		return duration(v)
	case mebibytes:
		return number(v) + " MiB"
	case aSecond:
		return number(v) + " a second"
	default:
		return number(v)
	}
}

// bound is what is wanted of a number. The zero value is met by all.
type bound struct {
	least bool // at least the limit, else at most
	limit float64
	unit  unit
}

func atLeast(limit float64, u unit) bound { return bound{true, limit, u} }
func atMost(limit float64, u unit) bound  { return bound{false, limit, u} }

func (b bound) String() string {
	switch {
	case b.unit == 0:
		return ""
	case b.least:
		return "≥ " + trimmed(b.unit.format(b.limit))
	default:
		return "≤ " + trimmed(b.unit.format(b.limit))
	}
}

// trimmed is without digits that say nothing.
func trimmed(s string) string {
	number, rest, _ := strings.Cut(s, " ")
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return strings.TrimSpace(number + " " + rest)
}

// verdict says whether a number is as wanted. What is not a number is not.
func (b bound) verdict(v float64) string {
	switch {
	case b.unit == 0:
		return ""
	case b.reached(v) >= 1:
		return "ok"
	default:
		return "short"
	}
}

// reached is how many times better than the limit a number is: 1 at the limit, more where it is better.
func (b bound) reached(v float64) float64 {
	switch {
	case math.IsNaN(v):
		return 0
	case b.least:
		return v / b.limit
	case v <= 0:
		return math.Inf(1)
	default:
		return b.limit / v
	}
}

// result is a line of the table.
type result struct {
	key                     string // of --only
	work, measured, against string
	ratio                   string // "" for that of value, if value is a ratio
	value                   float64
	wanted                  bound
	label                   string // of its bar in the picture; "" for none
}

// report is all that was measured.
type report struct {
	machine string
	results []result
	notes   []string // paragraphs and tables in Markdown, below the table
	curve   curve
}

func (b *bench) add(key string, results ...result) {
	for _, r := range results {
		r.key = key
		if r.ratio == "" && (r.wanted.unit == times || r.wanted.unit == percent) {
			r.ratio = r.wanted.unit.format(r.value)
		}
		b.report.results = append(b.report.results, r)
		say("%s: %s, against %s, ratio %s, wanted %s: %s", r.work, r.measured, orDash(r.against), orDash(r.ratio), orDash(r.wanted.String()), orDash(r.wanted.verdict(r.value)))
	}
}

func (b *bench) note(format string, args ...any) {
	b.report.notes = append(b.report.notes, fmt.Sprintf(format, args...))
}

// order is that of the table.
var order = []string{
	"apply", "backlog", "backfill", "rebuild", "verify", "freshness", "disturb", "write", "read", "space", "memory", "queue", "idle", "scale",
}

// write writes the report in Markdown.
func (r *report) write(w io.Writer) {
	slices.SortStableFunc(r.results, func(a, b result) int { return slices.Index(order, a.key) - slices.Index(order, b.key) })
	fmt.Fprintf(w, "%s\n\n", r.machine)
	fmt.Fprintln(w, "| work | measured | against | ratio | wanted | verdict |")
	fmt.Fprintln(w, "|---|---|---|--:|--:|---|")
	for _, r := range r.results {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", r.work, r.measured, r.against, r.ratio, r.wanted, r.wanted.verdict(r.value))
	}
	for _, note := range r.notes {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(note))
	}
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// number has three digits that mean something, and all that stand before the point, in groups.
func number(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case abs >= 100:
		return grouped(int(math.Round(v)))
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(digits) - 3; i > first; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// span is a length of time that somebody chose.
func span(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	return trimmed(duration(d.Seconds()))
}

// duration is of seconds.
func duration(s float64) string {
	if math.Abs(s) < 0.1 {
		return number(s*1000) + " ms"
	}
	return number(s) + " s"
}

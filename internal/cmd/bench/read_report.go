package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	// wantedOfPgbench is the least that the api is to reach of pgbench's rate.
	wantedOfPgbench = 0.5
	// wantedTimesRaw is how many times faster an answer is to be than the GROUP BY on the host's tables.
	wantedTimesRaw = 100
)

// readReport is what was measured of the api on one host.
type readReport struct {
	rows, runtimeRows int
	results           map[int][]*endpointResult // by connections
}

// worst returns the endpoint that reaches the least of pgbench's rate.
func (r readReport) worst(connections int) *endpointResult {
	return slices.MinFunc(r.results[connections], func(a, b *endpointResult) int { return cmp.Compare(a.ratio(), b.ratio()) })
}

// addRead adds a row for each number of connections and one for the raw statement, each of the endpoint that is worst, and all endpoints below
// the table.
func (b *bench) addRead(r readReport) {
	var all []*endpointResult
	for _, connections := range b.Connections {
		list := r.results[connections]
		all = append(all, list...)
		worst := r.worst(connections)
		b.add("read", result{
			work: fmt.Sprintf("read %s usage rows, %s: the least of %d endpoints, `%s`", grouped(r.rows), counted(connections, "connection"),
				len(list), worst.pattern),
			measured: aSecond.format(median(worst.api)), against: aSecond.format(median(worst.pgbench)) + " pgbench with the same statement",
			value: worst.ratio(), wanted: atLeast(wantedOfPgbench, percent),
			label: fmt.Sprintf("read %s rows, %s", rough(r.rows), counted(connections, "connection")),
		})
	}
	all = slices.DeleteFunc(all, func(e *endpointResult) bool { return e.raw == 0 })
	if len(all) > 0 {
		worst := slices.MinFunc(all, func(a, b *endpointResult) int { return cmp.Compare(a.timesRaw(), b.timesRaw()) })
		b.add("read", result{
			work:     fmt.Sprintf("read %s usage rows: the least beside the source, `%s`", grouped(r.rows), worst.pattern),
			measured: duration(median(worst.alone.p50).Seconds()), against: duration(worst.raw.Seconds()) + " `GROUP BY` on the host's tables",
			value: worst.timesRaw(), wanted: atLeast(wantedTimesRaw, times),
			label: fmt.Sprintf("read %s rows, beside the source", rough(r.rows)),
		})
	}
	b.report.notes = append(b.report.notes, r.tables(b))
}

// explainRead says what the tables of endpoints show.
func (b *bench) explainRead() {
	b.note("Of the api: `days=30`, one caller; medians of %s of %s, of three at least for the endpoint that is worst beside pgbench. *pgbench* runs the "+
		"statement that the api sends, prepared. *Raw* is the `GROUP BY` on the host's own tables that gives the same answer, run by itself; "+
		"*times raw* is that by the median latency of the api with one connection.", counted(b.ReadRounds, "round"), span(b.ReadDuration.Truncate(time.Second)))
}

// timesRaw is how many times longer the raw statement takes than an answer of the api with one connection.
func (r *endpointResult) timesRaw() float64 { return r.raw.Seconds() / median(r.alone.p50).Seconds() }

// tables writes all endpoints in Markdown, with a table for each number of connections.
func (r readReport) tables(b *bench) string {
	var w strings.Builder
	fmt.Fprintf(&w, "**Endpoints of the api at %s usage rows**, %s of them of the runtime that is asked about:\n",
		grouped(r.rows), grouped(r.runtimeRows))
	for _, connections := range b.Connections {
		fmt.Fprintf(&w, "\n%s:\n\n", counted(connections, "connection"))
		w.WriteString("| endpoint | rows | bytes | pgbench/s | api/s | ratio | p50 ms | p99 ms | raw ms | times raw |\n")
		w.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
		for _, e := range r.results[connections] {
			raw, times := "–", "–"
			if e.raw > 0 {
				raw, times = milliseconds(e.raw), grouped(int(math.Round(e.timesRaw())))
			}
			fmt.Fprintf(&w, "| `%s` | %d | %d | %.0f | %.0f | %.0f %% | %s | %s | %s | %s |\n", e.pattern, e.rows, len(e.load.body),
				median(e.pgbench), median(e.api), e.ratio()*100, milliseconds(median(e.p50)), milliseconds(median(e.p99)), raw, times)
		}
	}
	return w.String()
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// rough writes 999,998 as 1 M.
func rough(n int) string {
	if n < 500_000 {
		return fmt.Sprintf("%.3g k", float64(n)/1000)
	}
	return fmt.Sprintf("%.2g M", float64(n)/1e6)
}

func milliseconds(d time.Duration) string { return number(d.Seconds() * 1000) }

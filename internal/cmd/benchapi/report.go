package main

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

type report struct {
	rows, runtimeRows int
	version           string // of Postgres
	rounds, seconds   int
	connections       []int
	results           map[int][]result // by connections
	memory            int              // of the api at its peak, in KiB; 0 if unknown
}

// writeReport writes it in Markdown, with a table for each number of connections.
func writeReport(w io.Writer, r report) {
	fmt.Fprintf(w, "%d usage rows, %d of them of the runtime that is asked about; `days=30`; PostgreSQL %s and everything else on one machine "+
		"with %s; medians of %s of %d s.\n", r.rows, r.runtimeRows, r.version, counted(runtime.NumCPU(), "core"),
		counted(r.rounds, "round"), r.seconds)
	fmt.Fprintln(w, "*pgbench* runs the statement that the api sends, prepared. *Raw* is the `GROUP BY` on the host's own tables that gives the "+
		"same answer, run by itself; *times raw* is that by the median latency of the api with one connection.")
	for _, connections := range r.connections {
		list := r.results[connections]
		fmt.Fprintf(w, "\n%s:\n\n", counted(connections, "connection"))
		fmt.Fprintln(w, "| endpoint | rows | bytes | pgbench/s | api/s | ratio | p50 ms | p99 ms | raw ms | times raw |")
		fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
		lowest := list[0]
		for _, m := range list {
			raw, times := "–", "–"
			if m.raw > 0 {
				raw, times = milliseconds(m.raw), fmt.Sprintf("%.0f", m.raw.Seconds()/m.single.Seconds())
			}
			fmt.Fprintf(w, "| `%s` | %d | %d | %.0f | %.0f | %.0f %% | %s | %s | %s | %s |\n", m.pattern, m.rows, len(m.load.body),
				m.pgbench, m.api, m.ratio()*100, milliseconds(m.p50), milliseconds(m.p99), raw, times)
			if m.ratio() < lowest.ratio() {
				lowest = m
			}
		}
		verdict := "All reach"
		if lowest.ratio() < wantedRatio {
			verdict = "Not all reach"
		}
		fmt.Fprintf(w, "\nThe lowest ratio is %.1f %%, of `%s`. %s %.0f %%.\n", lowest.ratio()*100, lowest.pattern, verdict, wantedRatio*100)
	}
	if r.memory > 0 {
		fmt.Fprintf(w, "\nThe api held at most %.1f MiB of memory.\n", float64(r.memory)/1024)
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func milliseconds(d time.Duration) string {
	ms := d.Seconds() * 1000
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	default:
		return fmt.Sprintf("%.0f", ms)
	}
}

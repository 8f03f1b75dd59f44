//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The table in the documentation is between these lines.
const (
	reportBegin = "<!-- measured by make chaos: begin -->"
	reportEnd   = "<!-- measured by make chaos: end -->"
)

// measured is what the tests of this run have measured.
var measured report

type line struct{ fault, what, value, bound string }

type report struct {
	mu    sync.Mutex
	lines []line
}

// note adds a line to the report. The bound may be empty.
func note(t *testing.T, fault, what, value, bound string) {
	t.Helper()
	t.Logf("measured: %s: %s: %s (%s)", fault, what, value, bound)
	measured.mu.Lock()
	defer measured.mu.Unlock()
	measured.lines = append(measured.lines, line{fault, what, value, bound})
}

// noteTime adds a line about a duration, and fails the test if it is past its bound by so much that no noise explains it.
func noteTime(t *testing.T, fault, what string, value, bound time.Duration) {
	t.Helper()
	const margin = 3
	note(t, fault, what, seconds(value), fmt.Sprintf("at most %g s", bound.Seconds()))
	if value > margin*bound {
		t.Errorf("%s: %s: %s; the bound is %s", fault, what, value, bound)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// publish prints the table, and puts it into the file. Lines there that this run did not measure stay.
func (r *report) publish(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) == 0 {
		return nil
	}
	fmt.Print("\n", table(r.lines))
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(b), reportBegin)
	old, after, ended := strings.Cut(rest, reportEnd)
	if !found || !ended {
		return errors.New(path + " has no place for the report")
	}
	all := r.lines
	for _, l := range parseTable(old) {
		if !slices.ContainsFunc(r.lines, func(n line) bool { return n.fault == l.fault }) {
			all = append(all, l)
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return strings.Compare(a.fault, b.fault) })
	return os.WriteFile(path, []byte(before+reportBegin+"\n"+table(all)+reportEnd+after), 0o644)
}

const tableHead = "| fault | what was measured | value | bound |\n|---|---|---|---|\n"

func table(lines []line) string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.fault, l.what, l.value, l.bound)
	}
	return b.String()
}

func parseTable(text string) []line {
	var lines []line
	for row := range strings.Lines(strings.TrimPrefix(strings.TrimSpace(text), strings.TrimSpace(tableHead))) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
		if len(cells) != 4 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		lines = append(lines, line{cells[0], cells[1], cells[2], cells[3]})
	}
	return lines
}

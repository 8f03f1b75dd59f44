package rollup

import (
	"github.com/jackc/pgx/v5/pgtype"
)

// represents says in which of its task's buckets a usage fact also counts the task. Every window that is read ends now, so a
// task counts in the bucket of its latest fact of a group, and a sum over any window is the exact distinct count.
//
// The view daybook.usage_contribution computes agent and hour, which depend on the zone, for rebuilds of whole runtimes.
type represents struct {
	agent  bool // the latest of the task's facts of a model, by local date: the group is agent and model
	hour   bool // the latest of a model and a local hour, by local date
	day    bool // one of a model and a UTC date
	window bool // the latest of a model, by UTC date
}

// representatives returns for each fact of one task what it represents.
func representatives(usage []usageFact) []represents {
	result := make([]represents, len(usage))
	if len(usage) == 1 {
		result[0] = represents{agent: true, hour: true, day: true, window: true}
		return result
	}
	type hourGroup struct {
		model string
		hour  int16
	}
	type dayGroup struct {
		model string
		date  pgtype.Date
	}
	local := func(f *usageFact) pgtype.Date { return f.localDate }
	utc := func(f *usageFact) pgtype.Date { return f.utcDate }
	for _, i := range latest(usage, func(f *usageFact) string { return f.model }, local) {
		result[i].agent = true
	}
	for _, i := range latest(usage, func(f *usageFact) hourGroup { return hourGroup{f.model, f.localHour} }, local) {
		result[i].hour = true
	}
	for _, i := range latest(usage, func(f *usageFact) dayGroup { return dayGroup{f.model, f.utcDate} }, utc) {
		result[i].day = true
	}
	for _, i := range latest(usage, func(f *usageFact) string { return f.model }, utc) {
		result[i].window = true
	}
	return result
}

// latest returns the index of the latest fact of each group: by date first, since in a zone that turns its clocks back across
// midnight a later instant can have an earlier date; then by instant, then by provider.
func latest[G comparable](usage []usageFact, group func(*usageFact) G, date func(*usageFact) pgtype.Date) map[G]int {
	best := make(map[G]int)
	for i := range usage {
		f := &usage[i]
		g := group(f)
		if j, ok := best[g]; !ok || later(f, &usage[j], date) {
			best[g] = i
		}
	}
	return best
}

func later(f, than *usageFact, date func(*usageFact) pgtype.Date) bool {
	if a, b := date(f).Time, date(than).Time; !a.Equal(b) {
		return a.After(b)
	}
	if !f.created.Time.Equal(than.created.Time) {
		return f.created.Time.After(than.created.Time)
	}
	return f.provider < than.provider
}

package rollup

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

// alone is what the only usage of a task represents.
var alone = []represents{{agent: true, hour: true, day: true, window: true}}

// representatives returns for each fact of one task what it represents.
func representatives(usage []usageFact) []represents {
	if len(usage) == 1 {
		return alone
	}
	result := make([]represents, len(usage))
	local := func(f *usageFact) day { return f.localDate }
	utc := func(f *usageFact) day { return f.utcDate }
	whole := func(*usageFact, *usageFact) bool { return true }
	latest(usage, local, whole, func(i int) { result[i].agent = true })
	latest(usage, local, func(f, g *usageFact) bool { return f.localHour == g.localHour }, func(i int) { result[i].hour = true })
	latest(usage, utc, func(f, g *usageFact) bool { return f.utcDate == g.utcDate }, func(i int) { result[i].day = true })
	latest(usage, utc, whole, func(i int) { result[i].window = true })
	return result
}

// latest calls yield with the index of the latest fact of each group, which is a model and what is alike: by date first, since in a zone that
// turns its clocks back across midnight a later instant can have an earlier date; then by instant, then by provider. A task has few facts,
// so groups are looked for one by one.
func latest(usage []usageFact, date func(*usageFact) day, alike func(f, g *usageFact) bool, yield func(int)) {
	var few [8]int
	best := few[:0] // of each group that is found
facts:
	for i := range usage {
		f := &usage[i]
		for n, j := range best {
			if g := &usage[j]; f.name.model == g.name.model && alike(f, g) {
				if later(f, g, date) {
					best[n] = i
				}
				continue facts
			}
		}
		best = append(best, i)
	}
	for _, i := range best {
		yield(i)
	}
}

func later(f, than *usageFact, date func(*usageFact) day) bool {
	if a, b := date(f), date(than); a != b {
		return a > b
	}
	if !f.created.Time.Equal(than.created.Time) {
		return f.created.Time.After(than.created.Time)
	}
	return f.name.provider < than.name.provider
}

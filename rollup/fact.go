package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// dimensions are what a task has in common with all of its usage. Any but agent may be null.
type dimensions struct {
	workspace, runtime, agent, project pgtype.UUID
}

// providerModel is what tells the usage rows of a task apart.
type providerModel struct {
	provider, model string
}

// usageName is a provider and a model with their number, which is 0 until the ledger has numbers. There is one for each pair in a ledger, so they
// are compared by address.
type usageName struct {
	providerModel
	id int32
}

// usageFact is one usage row of a task. Facts are compared with ==, which holds because all of them are scanned alike.
type usageFact struct {
	dimensions
	name                                 *usageName
	input, output, cacheRead, cacheWrite int64
	when
}

// when is the instant of usage and what follows from it.
type when struct {
	created            pgtype.Timestamptz
	localDate, utcDate day // localDate is in the zone of the runtime's buckets; noDay without a runtime
	localHour          int16
	localOpen, utcOpen bool // whether the buckets of these days may still change
}

// taskFact is a task that was started.
type taskFact struct {
	dimensions
	started       pgtype.Timestamptz
	startedHour   int16              // in the zone of the runtime's buckets
	completed     pgtype.Timestamptz // of completed and failed tasks
	completedDate day                // UTC
	microseconds  int64              // from start to completion
	failed        bool
}

// taskState is all that one task contributes to buckets. The zero value contributes nothing.
type taskState struct {
	there   bool       // the host has the task; only of after
	started taskFact   // its started is null if the task was not started
	place   pgtype.TID // of the row of started; only of facts
	usage   []usageFact
	places  []pgtype.TID // of the rows of usage; only of facts
}

// taskChange is a task as it is counted (before) and as the source has it (after).
type taskChange struct {
	id            pgtype.UUID
	before, after taskState
	// refused is set if the task changed though it has usage, or had it, from before the days that are open. That is not counted again.
	refused bool
}

// ledger holds some tasks, in the order in which they were asked for.
type ledger struct {
	tasks []taskChange
	index map[pgtype.UUID]int32
	names map[providerModel]*usageName
	// dimensions holds the numbers of those that have one.
	dimensions map[dimensions]int32
	// zones holds the zone that the local columns of each runtime were computed in: empty if the runtime has none yet, or
	// a rebuild changed it between two reads.
	zones map[pgtype.UUID]string
}

// readLedger reads the source and then the tasks' facts. The caller holds the shard of every task, so the facts stay as they are.
func readLedger(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (*ledger, error) {
	l := &ledger{
		tasks:      make([]taskChange, len(tasks)),
		index:      make(map[pgtype.UUID]int32, len(tasks)),
		names:      make(map[providerModel]*usageName),
		dimensions: make(map[dimensions]int32),
		zones:      make(map[pgtype.UUID]string),
	}
	for i, id := range tasks {
		l.tasks[i].id = id
		l.index[id] = int32(i) //nolint:gosec // Some thousands at most.
	}
	var days queries.GetClosedDaysRow
	source := sourceReader{many: len(tasks) >= manyTasks}
	var usage []queries.ListUsageFactsRow
	var started []queries.ListTaskFactsRow
	err := q.Pipeline(ctx,
		func(q *queries.Queries) (err error) {
			days, err = q.GetClosedDays(ctx)
			return wrap("get closed days", err)
		},
		func(q *queries.Queries) error {
			return wrap("list source", source.read(ctx, q, tasks))
		},
		func(q *queries.Queries) (err error) {
			usage, err = q.ListUsageFacts(ctx, tasks)
			return wrap("list usage facts", err)
		},
		func(q *queries.Queries) (err error) {
			started, err = q.ListTaskFacts(ctx, tasks)
			return wrap("list task facts", err)
		})
	if err != nil {
		return nil, err
	}
	closed := closedDays{before: dayOf(days.ClosedBefore), keptFrom: days.KeptFrom}
	if err := l.takeSource(&source, closed); err != nil {
		return nil, err
	}
	if err := l.takeFacts(ctx, q, usage, started, closed); err != nil {
		return nil, err
	}
	for i := range l.tasks {
		t := &l.tasks[i]
		t.refused = t.refused || t.before.closedBut(&t.after) || t.after.closedBut(&t.before)
	}
	return l, nil
}

// closedDays are those whose buckets do not change any more.
type closedDays struct {
	before day
	// keptFrom is the instant from which on usage has facts; infinite while no day is closed.
	keptFrom pgtype.Timestamptz
}

// hasNoFact tells whether usage of this instant, which may be null, is too old for a fact.
func (c closedDays) hasNoFact(at pgtype.Timestamptz) bool {
	return at.Valid && c.keptFrom.InfinityModifier == pgtype.Finite && at.Time.Before(c.keptFrom.Time)
}

// takeFacts takes the tasks as they are counted. It comes after takeSource: a fact that is as the source has it falls into the same buckets, and its
// instant need not be converted again.
func (l *ledger) takeFacts(
	ctx context.Context, q *queries.Queries, usage []queries.ListUsageFactsRow, started []queries.ListTaskFactsRow, closed closedDays,
) error {
	numbered, err := l.readNumbers(ctx, q, usage, started)
	if err != nil {
		return err
	}
	var unlike localTimes
	facts := make([]usageFact, len(usage))
	for i := range usage {
		r := &usage[i]
		name, dims := numbered.names[r.NameID], numbered.dimensions[r.DimensionID]
		if name == nil || !dims.agent.Valid {
			return fmt.Errorf("usage fact of task %s: %w", r.TaskID, errNumberGone)
		}
		facts[i] = usageFact{
			dimensions: dims, name: name,
			input: r.InputTokens, output: r.OutputTokens, cacheRead: r.CacheReadTokens, cacheWrite: r.CacheWriteTokens,
		}
		if same := l.task(r.TaskID).after.createdLike(&facts[i], r.CreatedAt); same != nil {
			facts[i].when = same.when
		} else {
			unlike.add(dims.runtime, r.CreatedAt, func(local pgtype.Timestamp) { facts[i].when = usageAt(r.CreatedAt, local, closed.before) })
		}
	}
	for i := range started {
		r := &started[i]
		dims := numbered.dimensions[r.DimensionID]
		if !dims.agent.Valid {
			return fmt.Errorf("fact of task %s: %w", r.TaskID, errNumberGone)
		}
		task := l.task(r.TaskID)
		if !task.after.there {
			task.refused = closed.hasNoFact(r.StartedAt)
		}
		task.before.place = r.Place
		fact := &task.before.started
		*fact = taskFact{dimensions: dims, failed: r.Failed}.at(r.StartedAt, r.CompletedAt)
		if same := &task.after.started; same.runtime == dims.runtime && same.started == r.StartedAt {
			fact.startedHour = same.startedHour
		} else {
			unlike.add(dims.runtime, r.StartedAt, func(local pgtype.Timestamp) { fact.startedHour = startedAt(local) })
		}
	}
	if err := unlike.read(ctx, q, l); err != nil {
		return err
	}
	for i := range usage {
		before := &l.task(usage[i].TaskID).before
		before.usage = extend(before.usage, facts, i)
		before.places = append(before.places, usage[i].Place)
	}
	return nil
}

// localTimes are instants of facts that are not as the source has them.
type localTimes struct {
	params queries.ListLocalTimesParams
	set    []func(pgtype.Timestamp)
}

// add lets set be called with the instant in the zone of the runtime's buckets, which is null without a runtime.
func (t *localTimes) add(runtime pgtype.UUID, at pgtype.Timestamptz, set func(pgtype.Timestamp)) {
	t.params.RuntimeIds = append(t.params.RuntimeIds, runtime)
	t.params.Instants = append(t.params.Instants, at)
	t.set = append(t.set, set)
}

func (t *localTimes) read(ctx context.Context, q *queries.Queries, l *ledger) error {
	if len(t.set) == 0 {
		return nil
	}
	rows, err := q.ListLocalTimes(ctx, t.params)
	if err != nil {
		return fmt.Errorf("list local times: %w", err)
	}
	for _, r := range rows {
		l.noteZone(t.params.RuntimeIds[r.N-1], r.Timezone)
		t.set[r.N-1](r.LocalTime)
	}
	return nil
}

// manyTasks is from how many tasks on their usage is read at once.
const manyTasks = 500

// sourceReader holds the tasks as the host has them, as one of two statements reads them.
type sourceReader struct {
	many      bool
	oneByOne  []queries.ListSourceRow
	allAtOnce []queries.ListSourceOfManyRow
}

func (s *sourceReader) read(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (err error) {
	if s.many {
		s.allAtOnce, err = q.ListSourceOfMany(ctx, tasks)
	} else {
		s.oneByOne, err = q.ListSource(ctx, tasks)
	}
	return err
}

func (s *sourceReader) rows() int { return len(s.oneByOne) + len(s.allAtOnce) }

func (s *sourceReader) row(i int) *queries.ListSourceRow {
	if s.many {
		return (*queries.ListSourceRow)(&s.allAtOnce[i])
	}
	return &s.oneByOne[i]
}

// takeSource takes the tasks as the host has them.
func (l *ledger) takeSource(source *sourceReader, closed closedDays) error {
	facts := make([]usageFact, source.rows())
	for i := range facts {
		r := source.row(i)
		for _, at := range [...]pgtype.Timestamptz{r.StartedAt, r.CompletedAt, r.CreatedAt} {
			if at.InfinityModifier != pgtype.Finite {
				return fmt.Errorf("task %s: %w", r.TaskID, errInfinite)
			}
		}
		l.noteZone(r.RuntimeID, r.Timezone)
		task := l.task(r.TaskID)
		after := &task.after
		after.there = true
		dims := dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID}
		if r.StartedAt.Valid {
			after.started = taskFact{dimensions: dims, failed: r.Failed, startedHour: startedAt(r.LocalStarted)}.at(r.StartedAt, r.CompletedAt)
			if r.CompletedAt.Valid && isLongerThanBigint(r.StartedAt.Time, r.CompletedAt.Time) {
				return fmt.Errorf("task %s: %w", r.TaskID, errOverflow)
			}
		}
		switch {
		case closed.hasNoFact(r.CreatedAt):
			task.refused = true
		case r.HasUsage:
			facts[i] = usageFact{
				dimensions: dims, name: l.name(r.Provider.String, r.Model.String),
				input: r.InputTokens, output: r.OutputTokens, cacheRead: r.CacheReadTokens, cacheWrite: r.CacheWriteTokens,
				when: usageAt(r.CreatedAt, r.LocalCreated, closed.before),
			}
			if after.hasName(&facts[i]) {
				return fmt.Errorf("task %s: %w", r.TaskID, errTwice)
			}
			after.usage = extend(after.usage, facts, i)
		}
	}
	return nil
}

func (l *ledger) task(id pgtype.UUID) *taskChange {
	return &l.tasks[l.index[id]]
}

func (l *ledger) name(provider, model string) *usageName {
	key := providerModel{provider, model}
	name := l.names[key]
	if name == nil {
		name = &usageName{providerModel: key}
		l.names[key] = name
	}
	return name
}

// extend appends facts[i] to a list. The rows of a task come one after the other, so the list is mostly a part of facts already.
func extend(list, facts []usageFact, i int) []usageFact {
	n := len(list)
	if n == 0 || (n <= i && &facts[i-n] == &list[0]) {
		return facts[i-n : i+1 : i+1]
	}
	return append(list, facts[i])
}

// usageAt returns what follows from an instant of usage. local is the instant in the zone of the runtime's buckets, as Postgres converts it; null
// without a runtime.
func usageAt(created pgtype.Timestamptz, local pgtype.Timestamp, closed day) when {
	w := when{created: created}
	w.utcDate, _ = dayAndHour(created.Time, created.Valid)
	w.utcOpen = w.utcDate >= closed
	w.localDate, w.localHour = dayAndHour(local.Time, local.Valid)
	w.localOpen = local.Valid && w.localDate >= closed
	return w
}

// startedAt returns the hour of a start. local is as of usageAt.
func startedAt(local pgtype.Timestamp) int16 {
	_, hour := dayAndHour(local.Time, local.Valid)
	return hour
}

// createdLike returns the usage of the same name, if it has the same runtime and this instant, or nil.
func (s *taskState) createdLike(f *usageFact, created pgtype.Timestamptz) *usageFact {
	n, _ := s.find(f)
	if n < 0 || s.usage[n].runtime != f.runtime || s.usage[n].created != created {
		return nil
	}
	return &s.usage[n]
}

// at returns the fact with its instants and what follows from them in all zones.
func (f taskFact) at(started, completed pgtype.Timestamptz) taskFact {
	f.started = started
	f.completed = completed
	f.completedDate, _ = dayAndHour(completed.Time, completed.Valid)
	if completed.Valid {
		f.microseconds = microsecondsBetween(started.Time, completed.Time)
	}
	return f
}

// closedBut tells whether the state has usage of a closed day that the other has not.
func (s *taskState) closedBut(other *taskState) bool {
	for i := range s.usage {
		f := &s.usage[i]
		if closed := !f.utcOpen || (f.runtime.Valid && !f.localOpen); closed && !other.has(f) {
			return true
		}
	}
	return false
}

func (l *ledger) noteZone(runtime pgtype.UUID, zone pgtype.Text) {
	if !runtime.Valid {
		return
	}
	if seen, ok := l.zones[runtime]; !ok {
		l.zones[runtime] = zone.String
	} else if seen != zone.String {
		l.zones[runtime] = ""
	}
}

// withoutZone lists the runtimes that are counted for the first time.
func (l *ledger) withoutZone() []pgtype.UUID {
	var runtimes []pgtype.UUID
	for runtime, zone := range l.zones {
		if zone == "" {
			runtimes = append(runtimes, runtime)
		}
	}
	return runtimes
}

// runtimes appends the runtimes whose buckets the task is in or belongs to; one may come twice.
func (t *taskChange) runtimes(list []pgtype.UUID) []pgtype.UUID {
	for _, state := range [...]*taskState{&t.before, &t.after} {
		if state.started.runtime.Valid {
			list = append(list, state.started.runtime)
		}
		// A task's usage is all of one runtime.
		if len(state.usage) > 0 && state.usage[0].runtime.Valid && state.usage[0].runtime != state.started.runtime {
			list = append(list, state.usage[0].runtime)
		}
	}
	return list
}

// errFactChanged says that somebody else has changed a fact in spite of the locks, by hand. The next try sees what it is now.
var errFactChanged = errors.New("a fact has changed since it was read")

// factColumns collects what the statements that write facts of usage take: an array for each column.
type factColumns struct {
	tasks                                []pgtype.UUID
	names, dimensions                    []int32
	input, output, cacheRead, cacheWrite []int64
	created                              []pgtype.Timestamptz
}

func (c *factColumns) add(task pgtype.UUID, f *usageFact, dimension int32) {
	c.tasks = append(c.tasks, task)
	c.names = append(c.names, f.name.id)
	c.dimensions = append(c.dimensions, dimension)
	c.input = append(c.input, f.input)
	c.output = append(c.output, f.output)
	c.cacheRead = append(c.cacheRead, f.cacheRead)
	c.cacheWrite = append(c.cacheWrite, f.cacheWrite)
	c.created = append(c.created, f.created)
}

// writeUsageFacts returns the calls that make the facts of these tasks' usage those of the source, and write only what differs.
func (l *ledger) writeUsageFacts(ctx context.Context, tasks []*taskChange) (calls []func(*queries.Queries) error) {
	var add, update, gone factColumns
	var places []pgtype.TID // of update
	for _, t := range tasks {
		for i := range t.after.usage {
			f := &t.after.usage[i]
			switch n, twice := t.before.find(f); {
			case n < 0 || twice:
				add.add(t.id, f, l.dimensions[f.dimensions])
			case t.before.usage[n] != *f:
				update.add(t.id, f, l.dimensions[f.dimensions])
				places = append(places, t.before.places[n])
			}
		}
		for i := range t.before.usage {
			f := &t.before.usage[i]
			// Where somebody has put a second one there, both go.
			if _, twice := t.before.find(f); twice || !t.after.hasName(f) {
				gone.add(t.id, f, 0)
			}
		}
	}
	if len(gone.tasks) > 0 {
		calls = append(calls, func(q *queries.Queries) error {
			err := q.DeleteUsageFacts(ctx, queries.DeleteUsageFactsParams{TaskIds: gone.tasks, NameIds: gone.names})
			return wrap("delete usage facts", err)
		})
	}
	if len(places) > 0 {
		calls = append(calls, func(q *queries.Queries) error {
			updated, err := q.UpdateUsageFacts(ctx, queries.UpdateUsageFactsParams{
				Places: places, TaskIds: update.tasks, DimensionIds: update.dimensions,
				InputTokens: update.input, OutputTokens: update.output, CacheReadTokens: update.cacheRead, CacheWriteTokens: update.cacheWrite,
				CreatedAts: update.created,
			})
			return wrap("update usage facts", all(updated, len(places), err))
		})
	}
	if len(add.tasks) > 0 {
		calls = append(calls, func(q *queries.Queries) error {
			err := q.AddUsageFacts(ctx, queries.AddUsageFactsParams{
				TaskIds: add.tasks, NameIds: add.names, DimensionIds: add.dimensions,
				InputTokens: add.input, OutputTokens: add.output, CacheReadTokens: add.cacheRead, CacheWriteTokens: add.cacheWrite,
				CreatedAts: add.created,
			})
			return wrap("add usage facts", err)
		})
	}
	return calls
}

// writeTaskFacts is the same for the facts of the tasks themselves.
func (l *ledger) writeTaskFacts(ctx context.Context, tasks []*taskChange) (calls []func(*queries.Queries) error) {
	var add, update taskFactColumns
	var places []pgtype.TID // of update
	var gone []pgtype.UUID
	for _, t := range tasks {
		switch f := &t.after.started; {
		case *f == t.before.started:
		case !f.started.Valid:
			gone = append(gone, t.id)
		case t.before.started.started.Valid:
			update.add(t.id, f, l.dimensions[f.dimensions])
			places = append(places, t.before.place)
		default:
			add.add(t.id, f, l.dimensions[f.dimensions])
		}
	}
	if len(gone) > 0 {
		calls = append(calls, func(q *queries.Queries) error { return wrap("delete task facts", q.DeleteTaskFacts(ctx, gone)) })
	}
	if len(places) > 0 {
		calls = append(calls, func(q *queries.Queries) error {
			updated, err := q.UpdateTaskFacts(ctx, queries.UpdateTaskFactsParams{
				Places: places, TaskIds: update.tasks, DimensionIds: update.dimensions,
				StartedAts: update.started, CompletedAts: update.completed, Failed: update.failed,
			})
			return wrap("update task facts", all(updated, len(places), err))
		})
	}
	if len(add.tasks) > 0 {
		calls = append(calls, func(q *queries.Queries) error {
			err := q.AddTaskFacts(ctx, queries.AddTaskFactsParams{
				TaskIds: add.tasks, DimensionIds: add.dimensions, StartedAts: add.started, CompletedAts: add.completed, Failed: add.failed,
			})
			return wrap("add task facts", err)
		})
	}
	return calls
}

// all returns err or, if not all facts were updated, errFactChanged.
func all(updated int64, want int, err error) error {
	if err == nil && updated != int64(want) {
		return errFactChanged
	}
	return err
}

// taskFactColumns are like factColumns.
type taskFactColumns struct {
	tasks              []pgtype.UUID
	dimensions         []int32
	started, completed []pgtype.Timestamptz
	failed             []bool
}

func (c *taskFactColumns) add(task pgtype.UUID, f *taskFact, dimension int32) {
	c.tasks = append(c.tasks, task)
	c.dimensions = append(c.dimensions, dimension)
	c.started = append(c.started, f.started)
	c.completed = append(c.completed, f.completed)
	c.failed = append(c.failed, f.failed)
}

// has tells whether the state holds exactly this fact.
func (s *taskState) has(f *usageFact) bool {
	return slices.Contains(s.usage, *f)
}

// find returns where the state holds the fact of this name, or -1, and whether it holds more than one.
func (s *taskState) find(f *usageFact) (n int, twice bool) {
	n = -1
	for i := range s.usage {
		if s.usage[i].name != f.name {
			continue
		}
		if n >= 0 {
			return n, true
		}
		n = i
	}
	return n, false
}

func (s *taskState) hasName(f *usageFact) bool {
	n, _ := s.find(f)
	return n >= 0
}

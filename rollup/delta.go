package rollup

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// delta is what a set of tasks changes in every bucket: their contributions after a change less those before it.
type delta struct {
	daily       buckets[dailyKey]
	byAgent     buckets[agentKey]
	byHour      buckets[hourKey]
	activity    buckets[activityKey]
	workspace   buckets[workspaceKey]
	allProjects buckets[allProjectsKey]
	runTime     buckets[runTimeKey]
	// negative is set if one of the tasks has a negative number, and so buckets may have one too.
	negative bool
}

// newDelta makes room for what tasks with so many rows of usage change, if each stays where it was and most buckets have more than one of them. Hours
// and projects share the least.
func newDelta(tasks, usage int) *delta {
	d := new(delta)
	d.daily.grow(usage / 4)
	d.byAgent.grow(usage / 2)
	d.byHour.grow(usage)
	d.activity.grow(tasks / 4)
	d.workspace.grow(usage)
	d.allProjects.grow(usage / 2)
	d.runTime.grow(tasks / 2)
	return d
}

type dailyKey struct {
	runtime pgtype.UUID
	date    day
	name    *usageName
}

type agentKey struct {
	dailyKey
	agent pgtype.UUID
}

type hourKey struct {
	dailyKey
	hour int16
}

type allProjectsKey struct {
	workspace pgtype.UUID
	date      day
	agent     pgtype.UUID
	name      *usageName
}

type workspaceKey struct {
	allProjectsKey
	project pgtype.UUID
}

type activityKey struct {
	runtime pgtype.UUID
	hour    int16
}

type runTimeKey struct {
	workspace      pgtype.UUID
	date           day
	project, agent pgtype.UUID
}

// buckets holds the changes of the buckets of one rollup.
type buckets[K comparable] struct {
	index  map[K]int32
	keys   []K
	counts []counts
	// there tells of each bucket whether a task was counted in it before, so that there is one.
	there []bool
}

// grow makes room for so many buckets.
func (b *buckets[K]) grow(n int) {
	b.index = make(map[K]int32, n)
	b.keys, b.counts, b.there = make([]K, 0, n), make([]counts, 0, n), make([]bool, 0, n)
}

// add adds c, which is of a task as it is if sign is positive and as it was counted if it is negative, to the change of a bucket, or returns
// errOverflow.
func (b *buckets[K]) add(key K, c *counts, sign int64) error {
	i, ok := b.index[key]
	if !ok {
		i = int32(len(b.keys)) //nolint:gosec // As many as usage rows of one batch.
		b.index[key] = i
		b.keys = append(b.keys, key)
		b.counts = append(b.counts, counts{})
		b.there = append(b.there, false)
	}
	b.there[i] = b.there[i] || sign < 0
	return b.counts[i].add(c)
}

// changed calls yield for each bucket whose change is not zero.
func (b *buckets[K]) changed(yield func(*K, *counts) bool) {
	for i := range b.keys {
		if n := &b.counts[i]; *n != (counts{}) && !yield(&b.keys[i], n) {
			return
		}
	}
}

// mayBeNew tells whether one of those that change may not be there yet.
func (b *buckets[K]) mayBeNew() bool {
	for i := range b.counts {
		if !b.there[i] && b.counts[i] != (counts{}) {
			return true
		}
	}
	return false
}

// counts holds the columns of a bucket of any rollup; each rollup uses some of them.
type counts struct {
	input, output, cacheRead, cacheWrite int64
	events                               int64
	tasks                                int64 // by_agent, by_hour; of a day in workspace_usage_daily
	windowTasks                          int64
	microseconds                         int64
	failed                               int64
}

func (c *counts) fields() [9]*int64 {
	return [...]*int64{
		&c.input, &c.output, &c.cacheRead, &c.cacheWrite, &c.events, &c.tasks, &c.windowTasks, &c.microseconds, &c.failed,
	}
}

// add adds d to c, or returns errOverflow.
func (c *counts) add(d *counts) error {
	addends := d.fields()
	for i, f := range c.fields() {
		sum := *f + *addends[i]
		if (sum > *f) != (*addends[i] > 0) && *addends[i] != 0 {
			return errOverflow
		}
		*f = sum
	}
	return nil
}

// falls tells whether any of them is below zero.
func (c *counts) falls() bool {
	for _, f := range c.fields() {
		if *f < 0 {
			return true
		}
	}
	return false
}

// scale returns c times sign, which is +1 or -1, or errOverflow.
func (c counts) scale(sign int64) (counts, error) {
	for _, f := range c.fields() {
		negated := *f * sign
		if sign < 0 && *f != 0 && (negated > 0) == (*f > 0) {
			return c, errOverflow
		}
		*f = negated
	}
	return c, nil
}

// add adds what a task contributes, times sign, or returns errOverflow.
func (d *delta) add(state *taskState, sign int64) error {
	for i, r := range representatives(state.usage) {
		if err := d.addUsage(&state.usage[i], r, sign); err != nil {
			return err
		}
	}
	if state.started.started.Valid {
		return d.addTask(&state.started, sign)
	}
	return nil
}

func (d *delta) addUsage(f *usageFact, r represents, sign int64) error {
	base := counts{input: f.input, output: f.output, cacheRead: f.cacheRead, cacheWrite: f.cacheWrite, events: 1}
	d.negative = d.negative || base.falls()
	base, err := base.scale(sign)
	if err != nil {
		return err
	}
	with := func(tasks, windowTasks bool) *counts {
		c := base
		c.tasks, c.windowTasks = sign*count(tasks), sign*count(windowTasks)
		return &c
	}
	if f.runtime.Valid && f.localOpen {
		key := dailyKey{runtime: f.runtime, date: f.localDate, name: f.name}
		if err := d.daily.add(key, &base, sign); err != nil {
			return err
		}
		if err := d.byAgent.add(agentKey{key, f.agent}, with(r.agent, false), sign); err != nil {
			return err
		}
		if err := d.byHour.add(hourKey{key, f.localHour}, with(r.hour, false), sign); err != nil {
			return err
		}
	}
	if !f.workspace.Valid || !f.utcOpen {
		return nil
	}
	key := allProjectsKey{workspace: f.workspace, date: f.utcDate, agent: f.agent, name: f.name}
	n := with(r.day, r.window)
	if err := d.workspace.add(workspaceKey{key, f.project}, n, sign); err != nil {
		return err
	}
	return d.allProjects.add(key, n, sign)
}

func (d *delta) addTask(f *taskFact, sign int64) error {
	if f.runtime.Valid {
		if err := d.activity.add(activityKey{f.runtime, f.startedHour}, &counts{tasks: sign}, sign); err != nil {
			return err
		}
	}
	if !f.workspace.Valid || f.completedDate == noDay {
		return nil
	}
	d.negative = d.negative || f.microseconds < 0
	key := runTimeKey{workspace: f.workspace, date: f.completedDate, project: f.project, agent: f.agent}
	return d.runTime.add(key, &counts{microseconds: sign * f.microseconds, tasks: sign, failed: sign * count(f.failed)}, sign)
}

// write makes the calls that write facts, adds the delta to the buckets, deletes those that are left without facts, and makes the last call. The
// statements take the tables in one fixed order and rows in key order. It returns whose buckets fell below zero.
//
// A table whose buckets are all there goes in one round trip with those around it, unless it has many of them, which take memory. To insert a bucket
// can be to wait for another drain, and no row of a later table may be locked then, or each of the two waits for the other. A bucket that is there is
// missing to an update when another drain has written it since the statement began; but Postgres has locked its newest version by then, so to insert
// it waits for nobody. One that was deleted by hand may keep two drains waiting for each other, until one gives way.
func (d *delta) write(
	ctx context.Context, q *queries.Queries, facts []func(*queries.Queries) error, last func(*queries.Queries) error,
) (BelowZero, error) {
	var below BelowZero
	calls := facts
	var open []*bucketWrite
	flush := func() error {
		if err := q.Pipeline(ctx, calls...); err != nil {
			return err
		}
		for _, w := range open {
			if err := w.finish(q, &below); err != nil {
				return err
			}
		}
		calls, open = nil, nil
		return nil
	}
	for _, table := range []func(context.Context) *bucketWrite{
		d.writeDaily, d.writeByAgent, d.writeByHour, d.writeActivity, d.writeWorkspace, d.writeAllProjects, d.writeRunTime,
	} {
		w := table(ctx)
		if len(w.owners) == 0 {
			continue
		}
		many := len(w.owners) >= manyBuckets
		if many {
			if err := flush(); err != nil {
				return below, err
			}
		}
		calls, open = append(calls, w.update), append(open, w)
		if many || w.mayBeNew {
			if err := flush(); err != nil {
				return below, err
			}
		}
	}
	calls = append(calls, last)
	return below, flush()
}

// manyBuckets are worth a round trip of their own.
const manyBuckets = 1000

// columns collects what the statements of the rollups take: an array for each column of the buckets that changed. Each rollup uses some of
// them, and the others stay empty.
type columns struct {
	owners           []pgtype.UUID // runtimes or workspaces
	dates            []pgtype.Date
	projects, agents []pgtype.UUID
	hours            []int16
	names            []int32

	input, output, cacheRead, cacheWrite, events []int64
	tasks, windowTasks                           []int64
	microseconds, failed                         []int64

	falls []bool // whether something is taken from the bucket
}

// usageColumns makes room for so many buckets of usage.
func usageColumns(n int) columns {
	return columns{
		owners: make([]pgtype.UUID, 0, n), dates: make([]pgtype.Date, 0, n), names: make([]int32, 0, n),
		input: make([]int64, 0, n), output: make([]int64, 0, n), cacheRead: make([]int64, 0, n), cacheWrite: make([]int64, 0, n),
		events: make([]int64, 0, n), tasks: make([]int64, 0, n), windowTasks: make([]int64, 0, n), falls: make([]bool, 0, n),
	}
}

// addUsage adds a bucket of usage.
func (c *columns) addUsage(owner pgtype.UUID, date day, name *usageName, n *counts) {
	c.owners = append(c.owners, owner)
	c.dates = append(c.dates, date.date())
	c.names = append(c.names, name.id)
	c.input = append(c.input, n.input)
	c.output = append(c.output, n.output)
	c.cacheRead = append(c.cacheRead, n.cacheRead)
	c.cacheWrite = append(c.cacheWrite, n.cacheWrite)
	c.events = append(c.events, n.events)
	c.tasks = append(c.tasks, n.tasks)
	c.windowTasks = append(c.windowTasks, n.windowTasks)
	c.falls = append(c.falls, n.falls())
}

// pick returns the buckets of these indexes.
func (c *columns) pick(at []int32) *columns {
	return &columns{
		owners: pick(c.owners, at), dates: pick(c.dates, at), projects: pick(c.projects, at), agents: pick(c.agents, at),
		hours: pick(c.hours, at), names: pick(c.names, at),
		input: pick(c.input, at), output: pick(c.output, at), cacheRead: pick(c.cacheRead, at), cacheWrite: pick(c.cacheWrite, at),
		events: pick(c.events, at), tasks: pick(c.tasks, at), windowTasks: pick(c.windowTasks, at),
		microseconds: pick(c.microseconds, at), failed: pick(c.failed, at), falls: pick(c.falls, at),
	}
}

func pick[T any](column []T, at []int32) []T {
	if len(column) == 0 {
		return nil
	}
	picked := make([]T, len(at))
	for i, n := range at {
		picked[i] = column[n]
	}
	return picked
}

// bucketWrite adds buckets to those of one rollup: first update, then finish.
type bucketWrite struct {
	columns
	mayBeNew     bool // one of them may not be there yet
	ofWorkspaces bool // owners are workspaces and not runtimes
	// change changes those that are there; it returns the number of each that is not, and the negated number of each that may be empty or below zero
	// now; numbers begin with 1. insert inserts the others. deleteEmpty deletes those that are left without facts, of these owners and dates, and
	// returns the owners of those below zero.
	change      func(*queries.Queries, *columns) ([]int32, error)
	insert      func(*queries.Queries, *columns) error
	deleteEmpty func(*queries.Queries, *columns) ([]pgtype.UUID, error)
	notes       []int32 // what change returned
}

func (w *bucketWrite) update(q *queries.Queries) (err error) {
	w.notes, err = w.change(q, &w.columns)
	return err
}

// finish does what update has left, mostly nothing, and notes the owners of buckets below zero.
func (w *bucketWrite) finish(q *queries.Queries, below *BelowZero) error {
	var missing, low []int32
	for _, n := range w.notes {
		if n < 0 {
			low = append(low, -n-1)
			continue
		}
		missing = append(missing, n-1)
		if w.falls[n-1] {
			low = append(low, n-1)
		}
	}
	if len(missing) > 0 {
		if err := w.insert(q, w.pick(missing)); err != nil {
			return err
		}
	}
	if len(low) == 0 {
		return nil
	}
	owners, err := w.deleteEmpty(q, w.pick(low))
	if err != nil {
		return err
	}
	found := &below.Runtimes
	if w.ofWorkspaces {
		found = &below.Workspaces
	}
	for _, owner := range owners {
		if !slices.Contains(*found, owner) {
			*found = append(*found, owner)
		}
	}
	return nil
}

func (d *delta) writeDaily(ctx context.Context) *bucketWrite {
	c := usageColumns(len(d.daily.keys))
	for k, n := range d.daily.changed {
		c.addUsage(k.runtime, k.date, k.name, n)
	}
	params := func(c *columns) queries.UpdateUsageDailyParams {
		return queries.UpdateUsageDailyParams{
			RuntimeIds: c.owners, BucketDates: c.dates, NameIds: c.names,
			InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
			EventCounts: c.events,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.daily.mayBeNew(),
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateUsageDaily(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToUsageDaily(ctx, queries.AddToUsageDailyParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyUsageDaily(ctx, queries.DeleteEmptyUsageDailyParams{RuntimeIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func (d *delta) writeByAgent(ctx context.Context) *bucketWrite {
	c := usageColumns(len(d.byAgent.keys))
	for k, n := range d.byAgent.changed {
		c.addUsage(k.runtime, k.date, k.name, n)
		c.agents = append(c.agents, k.agent)
	}
	params := func(c *columns) queries.UpdateUsageByAgentParams {
		return queries.UpdateUsageByAgentParams{
			RuntimeIds: c.owners, BucketDates: c.dates, AgentIds: c.agents, NameIds: c.names,
			InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
			EventCounts: c.events, TaskCounts: c.tasks,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.byAgent.mayBeNew(),
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateUsageByAgent(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToUsageByAgent(ctx, queries.AddToUsageByAgentParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyUsageByAgent(ctx, queries.DeleteEmptyUsageByAgentParams{RuntimeIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func (d *delta) writeByHour(ctx context.Context) *bucketWrite {
	c := usageColumns(len(d.byHour.keys))
	for k, n := range d.byHour.changed {
		c.addUsage(k.runtime, k.date, k.name, n)
		c.hours = append(c.hours, k.hour)
	}
	params := func(c *columns) queries.UpdateUsageByHourParams {
		return queries.UpdateUsageByHourParams{
			RuntimeIds: c.owners, BucketDates: c.dates, Hours: c.hours, NameIds: c.names,
			InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
			EventCounts: c.events, TaskCounts: c.tasks,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.byHour.mayBeNew(),
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateUsageByHour(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToUsageByHour(ctx, queries.AddToUsageByHourParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyUsageByHour(ctx, queries.DeleteEmptyUsageByHourParams{RuntimeIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func (d *delta) writeActivity(ctx context.Context) *bucketWrite {
	var c columns
	for k, n := range d.activity.changed {
		c.owners = append(c.owners, k.runtime)
		c.hours = append(c.hours, k.hour)
		c.tasks = append(c.tasks, n.tasks)
		c.falls = append(c.falls, n.falls())
	}
	params := func(c *columns) queries.UpdateActivityByHourParams {
		return queries.UpdateActivityByHourParams{RuntimeIds: c.owners, Hours: c.hours, TaskCounts: c.tasks}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.activity.mayBeNew(),
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateActivityByHour(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToActivityByHour(ctx, queries.AddToActivityByHourParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyActivityByHour(ctx, c.owners)
		},
	}
}

func (d *delta) writeWorkspace(ctx context.Context) *bucketWrite {
	c := usageColumns(len(d.workspace.keys))
	for k, n := range d.workspace.changed {
		c.addUsage(k.workspace, k.date, k.name, n)
		c.projects = append(c.projects, k.project)
		c.agents = append(c.agents, k.agent)
	}
	params := func(c *columns) queries.UpdateWorkspaceUsageParams {
		return queries.UpdateWorkspaceUsageParams{
			WorkspaceIds: c.owners, BucketDates: c.dates, ProjectIds: c.projects, AgentIds: c.agents,
			NameIds:     c.names,
			InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
			EventCounts: c.events, DayTaskCounts: c.tasks, WindowTaskCounts: c.windowTasks,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.workspace.mayBeNew(), ofWorkspaces: true,
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateWorkspaceUsage(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToWorkspaceUsage(ctx, queries.AddToWorkspaceUsageParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyWorkspaceUsage(ctx, queries.DeleteEmptyWorkspaceUsageParams{WorkspaceIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func (d *delta) writeAllProjects(ctx context.Context) *bucketWrite {
	c := usageColumns(len(d.allProjects.keys))
	for k, n := range d.allProjects.changed {
		c.addUsage(k.workspace, k.date, k.name, n)
		c.agents = append(c.agents, k.agent)
	}
	params := func(c *columns) queries.UpdateWorkspaceUsageByAgentParams {
		return queries.UpdateWorkspaceUsageByAgentParams{
			WorkspaceIds: c.owners, BucketDates: c.dates, AgentIds: c.agents, NameIds: c.names,
			InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
			EventCounts: c.events, DayTaskCounts: c.tasks, WindowTaskCounts: c.windowTasks,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.allProjects.mayBeNew(), ofWorkspaces: true,
		change: func(q *queries.Queries, c *columns) ([]int32, error) {
			return q.UpdateWorkspaceUsageByAgent(ctx, params(c))
		},
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToWorkspaceUsageByAgent(ctx, queries.AddToWorkspaceUsageByAgentParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyWorkspaceUsageByAgent(ctx, queries.DeleteEmptyWorkspaceUsageByAgentParams{WorkspaceIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func (d *delta) writeRunTime(ctx context.Context) *bucketWrite {
	var c columns
	for k, n := range d.runTime.changed {
		c.owners = append(c.owners, k.workspace)
		c.dates = append(c.dates, k.date.date())
		c.projects = append(c.projects, k.project)
		c.agents = append(c.agents, k.agent)
		c.microseconds = append(c.microseconds, n.microseconds)
		c.tasks = append(c.tasks, n.tasks)
		c.failed = append(c.failed, n.failed)
		c.falls = append(c.falls, n.falls())
	}
	params := func(c *columns) queries.UpdateWorkspaceRunTimeParams {
		return queries.UpdateWorkspaceRunTimeParams{
			WorkspaceIds: c.owners, BucketDates: c.dates, ProjectIds: c.projects, AgentIds: c.agents,
			TotalMicroseconds: c.microseconds, TaskCounts: c.tasks, FailedCounts: c.failed,
		}
	}
	return &bucketWrite{
		columns: c, mayBeNew: d.runTime.mayBeNew(), ofWorkspaces: true,
		change: func(q *queries.Queries, c *columns) ([]int32, error) { return q.UpdateWorkspaceRunTime(ctx, params(c)) },
		insert: func(q *queries.Queries, c *columns) error {
			return q.AddToWorkspaceRunTime(ctx, queries.AddToWorkspaceRunTimeParams(params(c)))
		},
		deleteEmpty: func(q *queries.Queries, c *columns) ([]pgtype.UUID, error) {
			return q.DeleteEmptyWorkspaceRunTime(ctx, queries.DeleteEmptyWorkspaceRunTimeParams{WorkspaceIds: c.owners, BucketDates: c.dates, NoNegatives: !d.negative})
		},
	}
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

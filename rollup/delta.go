package rollup

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// delta is what a set of tasks changes in every bucket: their contributions after a change less those before it.
type delta struct {
	daily     map[dailyKey]*counts
	byAgent   map[agentKey]*counts
	byHour    map[hourKey]*counts
	workspace map[workspaceKey]*counts
	activity  map[activityKey]*counts
	runTime   map[runTimeKey]*counts
	// negative is set if one of the tasks has a negative number, and so buckets may have one too.
	negative bool
}

type dailyKey struct {
	runtime         pgtype.UUID
	date            pgtype.Date
	provider, model string
}

type agentKey struct {
	dailyKey
	agent pgtype.UUID
}

type hourKey struct {
	dailyKey
	hour int16
}

type workspaceKey struct {
	workspace       pgtype.UUID
	date            pgtype.Date
	project, agent  pgtype.UUID
	provider, model string
}

type activityKey struct {
	runtime pgtype.UUID
	hour    int16
}

type runTimeKey struct {
	workspace      pgtype.UUID
	date           pgtype.Date
	project, agent pgtype.UUID
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
func (c *counts) add(d counts) error {
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

func newDelta() *delta {
	return &delta{
		daily:     make(map[dailyKey]*counts),
		byAgent:   make(map[agentKey]*counts),
		byHour:    make(map[hourKey]*counts),
		workspace: make(map[workspaceKey]*counts),
		activity:  make(map[activityKey]*counts),
		runTime:   make(map[runTimeKey]*counts),
	}
}

// add adds what a task contributes, times sign, or returns errOverflow. A nil state contributes nothing.
func (d *delta) add(state *taskState, sign int64) error {
	if state == nil {
		return nil
	}
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
	with := func(tasks, windowTasks bool) counts {
		c := base
		c.tasks, c.windowTasks = sign*count(tasks), sign*count(windowTasks)
		return c
	}
	if f.runtime.Valid && f.localOpen {
		key := dailyKey{runtime: f.runtime, date: f.localDate, provider: f.provider, model: f.model}
		if err := addTo(d.daily, key, base); err != nil {
			return err
		}
		if err := addTo(d.byAgent, agentKey{key, f.agent}, with(r.agent, false)); err != nil {
			return err
		}
		if err := addTo(d.byHour, hourKey{key, f.localHour}, with(r.hour, false)); err != nil {
			return err
		}
	}
	if !f.workspace.Valid || !f.utcOpen {
		return nil
	}
	return addTo(d.workspace, workspaceKey{
		workspace: f.workspace, date: f.utcDate, project: f.project, agent: f.agent, provider: f.provider, model: f.model,
	}, with(r.day, r.window))
}

func (d *delta) addTask(f *taskFact, sign int64) error {
	if f.runtime.Valid {
		if err := addTo(d.activity, activityKey{f.runtime, f.startedHour}, counts{tasks: sign}); err != nil {
			return err
		}
	}
	if !f.workspace.Valid || !f.completedDate.Valid {
		return nil
	}
	d.negative = d.negative || f.microseconds < 0
	key := runTimeKey{workspace: f.workspace, date: f.completedDate, project: f.project, agent: f.agent}
	return addTo(d.runTime, key, counts{microseconds: sign * f.microseconds, tasks: sign, failed: sign * count(f.failed)})
}

// write adds the delta to the buckets and deletes those that are left without facts. The statements take the tables in
// one fixed order and rows in key order. It returns whose buckets fell below zero.
func (d *delta) write(ctx context.Context, q *queries.Queries) (BelowZero, error) {
	var below BelowZero
	for _, step := range []struct {
		write func(context.Context, *queries.Queries) ([]pgtype.UUID, error)
		found *[]pgtype.UUID
	}{
		{d.writeDaily, &below.Runtimes}, {d.writeByAgent, &below.Runtimes}, {d.writeByHour, &below.Runtimes},
		{d.writeActivity, &below.Runtimes}, {d.writeWorkspace, &below.Workspaces}, {d.writeRunTime, &below.Workspaces},
	} {
		owners, err := step.write(ctx, q)
		if err != nil {
			return below, err
		}
		for _, owner := range owners {
			if !slices.Contains(*step.found, owner) {
				*step.found = append(*step.found, owner)
			}
		}
	}
	return below, nil
}

// columns collects what the statements of several rollups take: an array for each column of the buckets that changed, and the keys of
// those where something fell.
type columns struct {
	owners                                       []pgtype.UUID // runtimes or workspaces
	dates                                        []pgtype.Date
	providers, models                            []string
	input, output, cacheRead, cacheWrite, events []int64
	tasks, windowTasks                           []int64

	lostOwners []pgtype.UUID
	lostDates  []pgtype.Date
}

// add adds a bucket.
func (c *columns) add(owner pgtype.UUID, date pgtype.Date, n *counts) {
	c.owners = append(c.owners, owner)
	c.dates = append(c.dates, date)
	if n.falls() {
		c.lostOwners = append(c.lostOwners, owner)
		c.lostDates = append(c.lostDates, date)
	}
}

// addUsage adds a bucket of usage.
func (c *columns) addUsage(owner pgtype.UUID, date pgtype.Date, provider, model string, n *counts) {
	c.add(owner, date, n)
	c.providers = append(c.providers, provider)
	c.models = append(c.models, model)
	c.input = append(c.input, n.input)
	c.output = append(c.output, n.output)
	c.cacheRead = append(c.cacheRead, n.cacheRead)
	c.cacheWrite = append(c.cacheWrite, n.cacheWrite)
	c.events = append(c.events, n.events)
	c.tasks = append(c.tasks, n.tasks)
	c.windowTasks = append(c.windowTasks, n.windowTasks)
}

func (d *delta) writeDaily(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var c columns
	for k, n := range changed(d.daily) {
		c.addUsage(k.runtime, k.date, k.provider, k.model, n)
	}
	if len(c.owners) == 0 {
		return nil, nil
	}
	err := q.AddToUsageDaily(ctx, queries.AddToUsageDailyParams{
		RuntimeIds: c.owners, BucketDates: c.dates, Providers: c.providers, Models: c.models,
		InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
		EventCounts: c.events,
	})
	if err != nil || len(c.lostOwners) == 0 {
		return nil, err
	}
	return q.DeleteEmptyUsageDaily(ctx, queries.DeleteEmptyUsageDailyParams{RuntimeIds: c.lostOwners, BucketDates: c.lostDates, NoNegatives: !d.negative})
}

func (d *delta) writeByAgent(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var c columns
	var agents []pgtype.UUID
	for k, n := range changed(d.byAgent) {
		c.addUsage(k.runtime, k.date, k.provider, k.model, n)
		agents = append(agents, k.agent)
	}
	if len(c.owners) == 0 {
		return nil, nil
	}
	err := q.AddToUsageByAgent(ctx, queries.AddToUsageByAgentParams{
		RuntimeIds: c.owners, BucketDates: c.dates, AgentIds: agents, Providers: c.providers, Models: c.models,
		InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
		EventCounts: c.events, TaskCounts: c.tasks,
	})
	if err != nil || len(c.lostOwners) == 0 {
		return nil, err
	}
	return q.DeleteEmptyUsageByAgent(ctx, queries.DeleteEmptyUsageByAgentParams{RuntimeIds: c.lostOwners, BucketDates: c.lostDates, NoNegatives: !d.negative})
}

func (d *delta) writeByHour(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var c columns
	var hours []int16
	for k, n := range changed(d.byHour) {
		c.addUsage(k.runtime, k.date, k.provider, k.model, n)
		hours = append(hours, k.hour)
	}
	if len(c.owners) == 0 {
		return nil, nil
	}
	err := q.AddToUsageByHour(ctx, queries.AddToUsageByHourParams{
		RuntimeIds: c.owners, BucketDates: c.dates, Hours: hours, Providers: c.providers, Models: c.models,
		InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
		EventCounts: c.events, TaskCounts: c.tasks,
	})
	if err != nil || len(c.lostOwners) == 0 {
		return nil, err
	}
	return q.DeleteEmptyUsageByHour(ctx, queries.DeleteEmptyUsageByHourParams{RuntimeIds: c.lostOwners, BucketDates: c.lostDates, NoNegatives: !d.negative})
}

func (d *delta) writeActivity(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var p queries.AddToActivityByHourParams
	var lost []pgtype.UUID
	for k, n := range changed(d.activity) {
		p.RuntimeIds = append(p.RuntimeIds, k.runtime)
		p.Hours = append(p.Hours, k.hour)
		p.TaskCounts = append(p.TaskCounts, n.tasks)
		if n.tasks < 0 {
			lost = append(lost, k.runtime)
		}
	}
	if len(p.RuntimeIds) == 0 {
		return nil, nil
	}
	if err := q.AddToActivityByHour(ctx, p); err != nil || len(lost) == 0 {
		return nil, err
	}
	return q.DeleteEmptyActivityByHour(ctx, lost)
}

func (d *delta) writeWorkspace(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var c columns
	var projects, agents []pgtype.UUID
	for k, n := range changed(d.workspace) {
		c.addUsage(k.workspace, k.date, k.provider, k.model, n)
		projects = append(projects, k.project)
		agents = append(agents, k.agent)
	}
	if len(c.owners) == 0 {
		return nil, nil
	}
	err := q.AddToWorkspaceUsage(ctx, queries.AddToWorkspaceUsageParams{
		WorkspaceIds: c.owners, BucketDates: c.dates, ProjectIds: projects, AgentIds: agents,
		Providers: c.providers, Models: c.models,
		InputTokens: c.input, OutputTokens: c.output, CacheReadTokens: c.cacheRead, CacheWriteTokens: c.cacheWrite,
		EventCounts: c.events, DayTaskCounts: c.tasks, WindowTaskCounts: c.windowTasks,
	})
	if err != nil || len(c.lostOwners) == 0 {
		return nil, err
	}
	return q.DeleteEmptyWorkspaceUsage(ctx, queries.DeleteEmptyWorkspaceUsageParams{WorkspaceIds: c.lostOwners, BucketDates: c.lostDates, NoNegatives: !d.negative})
}

func (d *delta) writeRunTime(ctx context.Context, q *queries.Queries) ([]pgtype.UUID, error) {
	var c columns
	var p queries.AddToWorkspaceRunTimeParams
	for k, n := range changed(d.runTime) {
		c.add(k.workspace, k.date, n)
		p.ProjectIds = append(p.ProjectIds, k.project)
		p.AgentIds = append(p.AgentIds, k.agent)
		p.TotalMicroseconds = append(p.TotalMicroseconds, n.microseconds)
		p.TaskCounts = append(p.TaskCounts, n.tasks)
		p.FailedCounts = append(p.FailedCounts, n.failed)
	}
	if len(c.owners) == 0 {
		return nil, nil
	}
	p.WorkspaceIds, p.BucketDates = c.owners, c.dates
	if err := q.AddToWorkspaceRunTime(ctx, p); err != nil || len(c.lostOwners) == 0 {
		return nil, err
	}
	return q.DeleteEmptyWorkspaceRunTime(ctx, queries.DeleteEmptyWorkspaceRunTimeParams{WorkspaceIds: c.lostOwners, BucketDates: c.lostDates, NoNegatives: !d.negative})
}

// addTo adds c to the bucket's delta, or returns errOverflow.
func addTo[K comparable](buckets map[K]*counts, key K, c counts) error {
	b := buckets[key]
	if b == nil {
		b = new(counts)
		buckets[key] = b
	}
	return b.add(c)
}

// changed returns the buckets whose delta is not zero.
func changed[K comparable](buckets map[K]*counts) map[K]*counts {
	maps.DeleteFunc(buckets, func(_ K, c *counts) bool { return *c == counts{} })
	return buckets
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

package rollup

import (
	"context"
	"maps"

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
	base, err := counts{
		input: f.input, output: f.output, cacheRead: f.cacheRead, cacheWrite: f.cacheWrite, events: 1,
	}.scale(sign)
	if err != nil {
		return err
	}
	with := func(tasks, windowTasks bool) counts {
		c := base
		c.tasks, c.windowTasks = sign*count(tasks), sign*count(windowTasks)
		return c
	}
	if f.runtime.Valid {
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
	if !f.workspace.Valid {
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
	key := runTimeKey{workspace: f.workspace, date: f.completedDate, project: f.project, agent: f.agent}
	return addTo(d.runTime, key, counts{microseconds: sign * f.microseconds, tasks: sign, failed: sign * count(f.failed)})
}

// write adds the delta to the buckets and deletes those that are left without facts. The statements take the tables in
// one fixed order and rows in key order.
func (d *delta) write(ctx context.Context, q *queries.Queries) error {
	for _, step := range []func(context.Context, *queries.Queries) error{
		d.writeDaily, d.writeByAgent, d.writeByHour, d.writeActivity, d.writeWorkspace, d.writeRunTime,
	} {
		if err := step(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (d *delta) writeDaily(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToUsageDailyParams
	var lost queries.DeleteEmptyUsageDailyParams
	for k, c := range changed(d.daily) {
		p.RuntimeIds = append(p.RuntimeIds, k.runtime)
		p.BucketDates = append(p.BucketDates, k.date)
		p.Providers = append(p.Providers, k.provider)
		p.Models = append(p.Models, k.model)
		p.InputTokens = append(p.InputTokens, c.input)
		p.OutputTokens = append(p.OutputTokens, c.output)
		p.CacheReadTokens = append(p.CacheReadTokens, c.cacheRead)
		p.CacheWriteTokens = append(p.CacheWriteTokens, c.cacheWrite)
		p.EventCounts = append(p.EventCounts, c.events)
		if c.events < 0 {
			lost.RuntimeIds = append(lost.RuntimeIds, k.runtime)
			lost.BucketDates = append(lost.BucketDates, k.date)
		}
	}
	if len(p.RuntimeIds) == 0 {
		return nil
	}
	if err := q.AddToUsageDaily(ctx, p); err != nil || len(lost.RuntimeIds) == 0 {
		return err
	}
	return q.DeleteEmptyUsageDaily(ctx, lost)
}

func (d *delta) writeByAgent(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToUsageByAgentParams
	var lost queries.DeleteEmptyUsageByAgentParams
	for k, c := range changed(d.byAgent) {
		p.RuntimeIds = append(p.RuntimeIds, k.runtime)
		p.BucketDates = append(p.BucketDates, k.date)
		p.AgentIds = append(p.AgentIds, k.agent)
		p.Providers = append(p.Providers, k.provider)
		p.Models = append(p.Models, k.model)
		p.InputTokens = append(p.InputTokens, c.input)
		p.OutputTokens = append(p.OutputTokens, c.output)
		p.CacheReadTokens = append(p.CacheReadTokens, c.cacheRead)
		p.CacheWriteTokens = append(p.CacheWriteTokens, c.cacheWrite)
		p.EventCounts = append(p.EventCounts, c.events)
		p.TaskCounts = append(p.TaskCounts, c.tasks)
		if c.events < 0 {
			lost.RuntimeIds = append(lost.RuntimeIds, k.runtime)
			lost.BucketDates = append(lost.BucketDates, k.date)
		}
	}
	if len(p.RuntimeIds) == 0 {
		return nil
	}
	if err := q.AddToUsageByAgent(ctx, p); err != nil || len(lost.RuntimeIds) == 0 {
		return err
	}
	return q.DeleteEmptyUsageByAgent(ctx, lost)
}

func (d *delta) writeByHour(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToUsageByHourParams
	var lost queries.DeleteEmptyUsageByHourParams
	for k, c := range changed(d.byHour) {
		p.RuntimeIds = append(p.RuntimeIds, k.runtime)
		p.BucketDates = append(p.BucketDates, k.date)
		p.Hours = append(p.Hours, k.hour)
		p.Providers = append(p.Providers, k.provider)
		p.Models = append(p.Models, k.model)
		p.InputTokens = append(p.InputTokens, c.input)
		p.OutputTokens = append(p.OutputTokens, c.output)
		p.CacheReadTokens = append(p.CacheReadTokens, c.cacheRead)
		p.CacheWriteTokens = append(p.CacheWriteTokens, c.cacheWrite)
		p.EventCounts = append(p.EventCounts, c.events)
		p.TaskCounts = append(p.TaskCounts, c.tasks)
		if c.events < 0 {
			lost.RuntimeIds = append(lost.RuntimeIds, k.runtime)
			lost.BucketDates = append(lost.BucketDates, k.date)
		}
	}
	if len(p.RuntimeIds) == 0 {
		return nil
	}
	if err := q.AddToUsageByHour(ctx, p); err != nil || len(lost.RuntimeIds) == 0 {
		return err
	}
	return q.DeleteEmptyUsageByHour(ctx, lost)
}

func (d *delta) writeActivity(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToActivityByHourParams
	var lost []pgtype.UUID
	for k, c := range changed(d.activity) {
		p.RuntimeIds = append(p.RuntimeIds, k.runtime)
		p.Hours = append(p.Hours, k.hour)
		p.TaskCounts = append(p.TaskCounts, c.tasks)
		if c.tasks < 0 {
			lost = append(lost, k.runtime)
		}
	}
	if len(p.RuntimeIds) == 0 {
		return nil
	}
	if err := q.AddToActivityByHour(ctx, p); err != nil || len(lost) == 0 {
		return err
	}
	return q.DeleteEmptyActivityByHour(ctx, lost)
}

func (d *delta) writeWorkspace(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToWorkspaceUsageParams
	var lost queries.DeleteEmptyWorkspaceUsageParams
	for k, c := range changed(d.workspace) {
		p.WorkspaceIds = append(p.WorkspaceIds, k.workspace)
		p.BucketDates = append(p.BucketDates, k.date)
		p.ProjectIds = append(p.ProjectIds, k.project)
		p.AgentIds = append(p.AgentIds, k.agent)
		p.Providers = append(p.Providers, k.provider)
		p.Models = append(p.Models, k.model)
		p.InputTokens = append(p.InputTokens, c.input)
		p.OutputTokens = append(p.OutputTokens, c.output)
		p.CacheReadTokens = append(p.CacheReadTokens, c.cacheRead)
		p.CacheWriteTokens = append(p.CacheWriteTokens, c.cacheWrite)
		p.EventCounts = append(p.EventCounts, c.events)
		p.DayTaskCounts = append(p.DayTaskCounts, c.tasks)
		p.WindowTaskCounts = append(p.WindowTaskCounts, c.windowTasks)
		if c.events < 0 {
			lost.WorkspaceIds = append(lost.WorkspaceIds, k.workspace)
			lost.BucketDates = append(lost.BucketDates, k.date)
		}
	}
	if len(p.WorkspaceIds) == 0 {
		return nil
	}
	if err := q.AddToWorkspaceUsage(ctx, p); err != nil || len(lost.WorkspaceIds) == 0 {
		return err
	}
	return q.DeleteEmptyWorkspaceUsage(ctx, lost)
}

func (d *delta) writeRunTime(ctx context.Context, q *queries.Queries) error {
	var p queries.AddToWorkspaceRunTimeParams
	var lost queries.DeleteEmptyWorkspaceRunTimeParams
	for k, c := range changed(d.runTime) {
		p.WorkspaceIds = append(p.WorkspaceIds, k.workspace)
		p.BucketDates = append(p.BucketDates, k.date)
		p.ProjectIds = append(p.ProjectIds, k.project)
		p.AgentIds = append(p.AgentIds, k.agent)
		p.TotalMicroseconds = append(p.TotalMicroseconds, c.microseconds)
		p.TaskCounts = append(p.TaskCounts, c.tasks)
		p.FailedCounts = append(p.FailedCounts, c.failed)
		if c.tasks < 0 {
			lost.WorkspaceIds = append(lost.WorkspaceIds, k.workspace)
			lost.BucketDates = append(lost.BucketDates, k.date)
		}
	}
	if len(p.WorkspaceIds) == 0 {
		return nil
	}
	if err := q.AddToWorkspaceRunTime(ctx, p); err != nil || len(lost.WorkspaceIds) == 0 {
		return err
	}
	return q.DeleteEmptyWorkspaceRunTime(ctx, lost)
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

package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// dimensions are what a task has in common with all of its usage. Any but agent may be null.
type dimensions struct {
	workspace, runtime, agent, project pgtype.UUID
}

// usageFact is one usage row of a task. Facts are compared with ==, which holds because all of them are scanned alike.
type usageFact struct {
	dimensions
	provider, model                      string
	input, output, cacheRead, cacheWrite int64
	created                              pgtype.Timestamptz
	localDate                            pgtype.Date // in the zone of the runtime's buckets; null without a runtime
	localHour                            int16
	utcDate                              pgtype.Date
	localOpen, utcOpen                   bool // whether the buckets of these days may still change
}

// taskFact is a task that was started.
type taskFact struct {
	dimensions
	started       pgtype.Timestamptz
	startedHour   int16              // in the zone of the runtime's buckets
	completed     pgtype.Timestamptz // of completed and failed tasks
	completedDate pgtype.Date        // UTC
	microseconds  int64              // from start to completion
	failed        bool
}

// taskState is all that one task contributes to buckets. The zero value contributes nothing.
type taskState struct {
	started taskFact // its started is null if the task was not started
	usage   []usageFact
	places  []pgtype.TID // of the rows of usage; only of facts
}

// ledger holds the state of some tasks as they are counted (before) and as the source has them (after).
type ledger struct {
	before, after map[pgtype.UUID]*taskState
	// refused are the tasks that changed though they have usage, or had it, from before the days that are open. It is not counted again.
	refused map[pgtype.UUID]bool
	// zones holds the zone that the local columns of each runtime were computed in: empty if the runtime has none yet, or
	// a rebuild changed it between two reads.
	zones map[pgtype.UUID]string
}

// readLedger reads the tasks' facts and then the source. The caller holds the shard of every task, so the facts stay as they are.
func readLedger(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (*ledger, error) {
	l := &ledger{
		before:  make(map[pgtype.UUID]*taskState),
		after:   make(map[pgtype.UUID]*taskState, len(tasks)),
		zones:   make(map[pgtype.UUID]string),
		refused: make(map[pgtype.UUID]bool),
	}
	closed, err := q.GetClosedBefore(ctx)
	if err != nil {
		return nil, fmt.Errorf("get closed days: %w", err)
	}
	usage, err := q.ListUsageFacts(ctx, tasks)
	if err != nil {
		return nil, fmt.Errorf("list usage facts: %w", err)
	}
	for i := range usage {
		r := &usage[i]
		l.noteZone(r.RuntimeID, r.Timezone)
		state := stateOf(l.before, r.TaskID)
		state.places = append(state.places, r.Place)
		state.usage = append(state.usage, usageFact{
			dimensions: dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID},
			provider:   r.Provider, model: r.Model,
			input: r.InputTokens, output: r.OutputTokens, cacheRead: r.CacheReadTokens, cacheWrite: r.CacheWriteTokens,
		}.at(r.CreatedAt, r.LocalCreated, closed))
	}
	isOld := make(map[pgtype.UUID]bool) // tasks that were started before the days that are open
	started, err := q.ListTaskFacts(ctx, tasks)
	if err != nil {
		return nil, fmt.Errorf("list task facts: %w", err)
	}
	for i := range started {
		r := &started[i]
		l.noteZone(r.RuntimeID, r.Timezone)
		isOld[r.TaskID] = r.IsOld
		stateOf(l.before, r.TaskID).started = taskFact{
			dimensions: dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID}, failed: r.Failed,
		}.at(r.StartedAt, r.LocalStarted, r.CompletedAt)
	}
	source, err := q.ListSource(ctx, tasks)
	if err != nil {
		return nil, fmt.Errorf("list source: %w", err)
	}
	for i := range source {
		r := &source[i]
		for _, at := range [...]pgtype.Timestamptz{r.StartedAt, r.CompletedAt, r.CreatedAt} {
			if at.InfinityModifier != pgtype.Finite {
				return nil, fmt.Errorf("task %s: %w", r.TaskID, errInfinite)
			}
		}
		l.noteZone(r.RuntimeID, r.Timezone)
		state := stateOf(l.after, r.TaskID)
		dims := dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID}
		if r.StartedAt.Valid {
			state.started = taskFact{dimensions: dims, failed: r.Failed}.at(r.StartedAt, r.LocalStarted, r.CompletedAt)
		}
		switch {
		case r.IsOld:
			l.refused[r.TaskID] = true
		case r.HasUsage:
			state.usage = append(state.usage, usageFact{
				dimensions: dims,
				provider:   r.Provider.String, model: r.Model.String,
				input: r.InputTokens, output: r.OutputTokens, cacheRead: r.CacheReadTokens, cacheWrite: r.CacheWriteTokens,
			}.at(r.CreatedAt, r.LocalCreated, closed))
		}
	}
	for _, task := range tasks {
		before, after := l.before[task], l.after[task]
		if (isOld[task] && after == nil) || before.closedBut(after) || after.closedBut(before) {
			l.refused[task] = true
		}
	}
	return l, nil
}

// at returns the fact with its instant and what follows from that. local is the instant in the zone of the runtime's buckets, as Postgres
// converts it; null without a runtime.
func (f usageFact) at(created pgtype.Timestamptz, local pgtype.Timestamp, closed pgtype.Date) usageFact {
	f.created = created
	f.utcDate = dateOf(created.Time.UTC(), created.Valid)
	f.utcOpen = !isBefore(f.utcDate, closed)
	f.localDate = dateOf(local.Time, local.Valid)
	f.localOpen = local.Valid && !isBefore(f.localDate, closed)
	f.localHour = int16(local.Time.Hour()) //nolint:gosec // Less than 24.
	return f
}

// at returns the fact with its instants and what follows from them, like usageFact.at.
func (f taskFact) at(started pgtype.Timestamptz, local pgtype.Timestamp, completed pgtype.Timestamptz) taskFact {
	f.started = started
	f.startedHour = int16(local.Time.Hour()) //nolint:gosec // Less than 24.
	f.completed = completed
	if completed.Valid {
		f.completedDate = dateOf(completed.Time.UTC(), true)
		f.microseconds = completed.Time.UnixMicro() - started.Time.UnixMicro()
	}
	return f
}

// dateOf is the date of an instant in its own location.
func dateOf(at time.Time, valid bool) pgtype.Date {
	if !valid {
		return pgtype.Date{}
	}
	return pgtype.Date{Time: time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.UTC), Valid: true}
}

// isBefore tells whether a date is before another one, which may be infinite.
func isBefore(date, other pgtype.Date) bool {
	if other.InfinityModifier != pgtype.Finite {
		return other.InfinityModifier == pgtype.Infinity
	}
	return date.Time.Before(other.Time)
}

// closedBut tells whether the state has usage of a closed day that the other has not.
func (s *taskState) closedBut(other *taskState) bool {
	if s == nil {
		return false
	}
	for i := range s.usage {
		f := &s.usage[i]
		if closed := !f.utcOpen || (f.runtime.Valid && !f.localOpen); closed && (other == nil || !other.has(f)) {
			return true
		}
	}
	return false
}

func (l *ledger) noteZone(runtime pgtype.UUID, zone pgtype.Text) {
	if !runtime.Valid {
		return
	}
	if seen, ok := l.zones[runtime]; ok && seen != zone.String {
		l.zones[runtime] = ""
		return
	}
	l.zones[runtime] = zone.String
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

// runtimesOf calls yield for each runtime whose buckets the task is in or belongs to; a runtime may come twice.
func (l *ledger) runtimesOf(task pgtype.UUID, yield func(pgtype.UUID)) {
	for _, state := range [...]*taskState{l.before[task], l.after[task]} {
		if state == nil {
			continue
		}
		if state.started.runtime.Valid {
			yield(state.started.runtime)
		}
		// A task's usage is all of one runtime.
		if len(state.usage) > 0 && state.usage[0].runtime.Valid {
			yield(state.usage[0].runtime)
		}
	}
}

// errFactChanged says that somebody else has changed a fact in spite of the locks, by hand. The next try sees what it is now.
var errFactChanged = errors.New("a fact has changed since it was read")

// writeFacts makes the facts of the tasks those of the source, and writes only what differs.
func (l *ledger) writeFacts(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) error {
	var (
		put         queries.PutUsageFactsParams
		update      queries.UpdateUsageFactsParams
		gone        queries.DeleteUsageFactsParams
		putTasks    queries.PutTaskFactsParams
		deleteTasks []pgtype.UUID
		nothing     taskState
	)
	for _, task := range tasks {
		before, after := l.before[task], l.after[task]
		if before == nil {
			before = &nothing
		}
		if after == nil {
			after = &nothing
		}
		for i := range after.usage {
			f := &after.usage[i]
			n := before.find(f)
			if before.isTwice(f) {
				// Somebody has put a second one there. Both go.
				gone.TaskIds = append(gone.TaskIds, task)
				gone.Providers = append(gone.Providers, f.provider)
				gone.Models = append(gone.Models, f.model)
				n = -1
			}
			switch {
			case n < 0:
				put.TaskIds = append(put.TaskIds, task)
				put.Providers = append(put.Providers, f.provider)
				put.Models = append(put.Models, f.model)
				put.WorkspaceIds = append(put.WorkspaceIds, f.workspace)
				put.RuntimeIds = append(put.RuntimeIds, f.runtime)
				put.AgentIds = append(put.AgentIds, f.agent)
				put.ProjectIds = append(put.ProjectIds, f.project)
				put.InputTokens = append(put.InputTokens, f.input)
				put.OutputTokens = append(put.OutputTokens, f.output)
				put.CacheReadTokens = append(put.CacheReadTokens, f.cacheRead)
				put.CacheWriteTokens = append(put.CacheWriteTokens, f.cacheWrite)
				put.CreatedAts = append(put.CreatedAts, f.created)
			case before.usage[n] != *f:
				update.Places = append(update.Places, before.places[n])
				update.TaskIds = append(update.TaskIds, task)
				update.WorkspaceIds = append(update.WorkspaceIds, f.workspace)
				update.RuntimeIds = append(update.RuntimeIds, f.runtime)
				update.AgentIds = append(update.AgentIds, f.agent)
				update.ProjectIds = append(update.ProjectIds, f.project)
				update.InputTokens = append(update.InputTokens, f.input)
				update.OutputTokens = append(update.OutputTokens, f.output)
				update.CacheReadTokens = append(update.CacheReadTokens, f.cacheRead)
				update.CacheWriteTokens = append(update.CacheWriteTokens, f.cacheWrite)
				update.CreatedAts = append(update.CreatedAts, f.created)
			}
		}
		for i := range before.usage {
			if f := &before.usage[i]; after.find(f) < 0 {
				gone.TaskIds = append(gone.TaskIds, task)
				gone.Providers = append(gone.Providers, f.provider)
				gone.Models = append(gone.Models, f.model)
			}
		}
		switch f := &after.started; {
		case *f == before.started:
		case f.started.Valid:
			putTasks.TaskIds = append(putTasks.TaskIds, task)
			putTasks.WorkspaceIds = append(putTasks.WorkspaceIds, f.workspace)
			putTasks.RuntimeIds = append(putTasks.RuntimeIds, f.runtime)
			putTasks.AgentIds = append(putTasks.AgentIds, f.agent)
			putTasks.ProjectIds = append(putTasks.ProjectIds, f.project)
			putTasks.StartedAts = append(putTasks.StartedAts, f.started)
			putTasks.CompletedAts = append(putTasks.CompletedAts, f.completed)
			putTasks.Failed = append(putTasks.Failed, f.failed)
		default:
			deleteTasks = append(deleteTasks, task)
		}
	}
	if len(gone.TaskIds) > 0 {
		if err := q.DeleteUsageFacts(ctx, gone); err != nil {
			return fmt.Errorf("delete usage facts: %w", err)
		}
	}
	if n := len(update.Places); n > 0 {
		updated, err := q.UpdateUsageFacts(ctx, update)
		if err == nil && updated != int64(n) {
			err = errFactChanged
		}
		if err != nil {
			return fmt.Errorf("update usage facts: %w", err)
		}
	}
	if len(put.TaskIds) > 0 {
		if err := q.PutUsageFacts(ctx, put); err != nil {
			return fmt.Errorf("put usage facts: %w", err)
		}
	}
	if len(deleteTasks) > 0 {
		if err := q.DeleteTaskFacts(ctx, deleteTasks); err != nil {
			return fmt.Errorf("delete task facts: %w", err)
		}
	}
	if len(putTasks.TaskIds) > 0 {
		if err := q.PutTaskFacts(ctx, putTasks); err != nil {
			return fmt.Errorf("put task facts: %w", err)
		}
	}
	return nil
}

// has tells whether the state holds exactly this fact.
func (s *taskState) has(f *usageFact) bool {
	return slices.Contains(s.usage, *f)
}

// find returns where the state holds the fact of this provider and model, or -1.
func (s *taskState) find(f *usageFact) int {
	return slices.IndexFunc(s.usage, func(g usageFact) bool { return g.provider == f.provider && g.model == f.model })
}

// isTwice tells whether the state holds more than one fact of this provider and model.
func (s *taskState) isTwice(f *usageFact) bool {
	n := 0
	for i := range s.usage {
		if g := &s.usage[i]; g.provider == f.provider && g.model == f.model {
			n++
		}
	}
	return n > 1
}

func stateOf(states map[pgtype.UUID]*taskState, task pgtype.UUID) *taskState {
	s := states[task]
	if s == nil {
		s = new(taskState)
		states[task] = s
	}
	return s
}

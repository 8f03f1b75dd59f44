package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"daybook/queries"
)

// errNumberGone says that a fact has a number that stands for nothing any more, which is only possible after somebody deleted rows by hand.
var errNumberGone = errors.New("its name or its dimensions are not there any more; a backfill after `worker migrate down` and `up` counts everything anew")

// numbers is what the numbers of facts stand for.
type numbers struct {
	names      map[int32]*usageName
	dimensions map[int32]dimensions
}

// readNumbers looks up what the numbers of these facts stand for, and notes them in the ledger.
func (l *ledger) readNumbers(
	ctx context.Context, q *queries.Queries, usage []queries.ListUsageFactsRow, started []queries.ListTaskFactsRow,
) (numbers, error) {
	found := numbers{make(map[int32]*usageName), make(map[int32]dimensions)}
	if len(usage) == 0 && len(started) == 0 {
		return found, nil
	}
	var wanted queries.ListNumberedParams
	for i := range usage {
		wanted.NameIds = append(wanted.NameIds, usage[i].NameID)
		wanted.DimensionIds = append(wanted.DimensionIds, usage[i].DimensionID)
	}
	for i := range started {
		wanted.DimensionIds = append(wanted.DimensionIds, started[i].DimensionID)
	}
	slices.Sort(wanted.NameIds)
	slices.Sort(wanted.DimensionIds)
	wanted.NameIds, wanted.DimensionIds = slices.Compact(wanted.NameIds), slices.Compact(wanted.DimensionIds)
	rows, err := q.ListNumbered(ctx, wanted)
	if err != nil {
		return found, fmt.Errorf("list what is numbered: %w", err)
	}
	for _, r := range rows {
		if !r.AgentID.Valid {
			name := l.name(r.Provider, r.Model)
			name.id = r.ID
			found.names[r.ID] = name
			continue
		}
		dims := dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID}
		l.dimensions[dims] = r.ID
		found.dimensions[r.ID] = dims
	}
	return found, nil
}

// giveNumbers sees to it that all names and dimensions of the ledger have their numbers. Most have them, from the facts that were read. It comes
// before the first bucket is written: see queries/drain.sql.
func (l *ledger) giveNumbers(ctx context.Context, q *queries.Queries) error {
	if err := l.numberNames(ctx, q); err != nil {
		return fmt.Errorf("number names: %w", err)
	}
	if err := l.numberDimensions(ctx, q); err != nil {
		return fmt.Errorf("number dimensions: %w", err)
	}
	return nil
}

func (l *ledger) numberNames(ctx context.Context, q *queries.Queries) error {
	var names queries.ListUsageNamesParams
	return number(
		func() int {
			names = queries.ListUsageNamesParams{}
			for key, name := range l.names {
				if name.id == 0 {
					names.Providers = append(names.Providers, key.provider)
					names.Models = append(names.Models, key.model)
				}
			}
			return len(names.Providers)
		},
		func() error {
			rows, err := q.ListUsageNames(ctx, names)
			for _, r := range rows {
				l.names[providerModel{r.Provider, r.Model}].id = r.ID
			}
			return err
		},
		func() error { return q.AddUsageNames(ctx, queries.AddUsageNamesParams(names)) })
}

func (l *ledger) numberDimensions(ctx context.Context, q *queries.Queries) error {
	var dims queries.ListDimensionsParams
	return number(
		func() int { dims = l.withoutNumber(); return len(dims.AgentIds) },
		func() error {
			rows, err := q.ListDimensions(ctx, dims)
			for _, r := range rows {
				l.dimensions[dimensions{r.WorkspaceID, r.RuntimeID, r.AgentID, r.ProjectID}] = r.ID
			}
			return err
		},
		func() error { return q.AddDimensions(ctx, queries.AddDimensionsParams(dims)) })
}

// withoutNumber lists the dimensions of the source that have no number yet.
func (l *ledger) withoutNumber() (dims queries.ListDimensionsParams) {
	seen := make(map[dimensions]bool)
	note := func(d dimensions) {
		if _, ok := l.dimensions[d]; ok || seen[d] {
			return
		}
		seen[d] = true
		dims.WorkspaceIds = append(dims.WorkspaceIds, d.workspace)
		dims.RuntimeIds = append(dims.RuntimeIds, d.runtime)
		dims.AgentIds = append(dims.AgentIds, d.agent)
		dims.ProjectIds = append(dims.ProjectIds, d.project)
	}
	for i := range l.tasks {
		after := &l.tasks[i].after
		if after.started.started.Valid {
			note(after.started.dimensions)
		}
		if len(after.usage) > 0 { // A task's usage has all the same.
			note(after.usage[0].dimensions)
		}
	}
	return dims
}

// number looks up what has no number, and then adds what still has none: an insert that meets a row uses up a number all the same. list lists what
// has none for the other two, and returns how many there are.
func number(list func() int, lookUp, add func() error) error {
	if list() == 0 {
		return nil
	}
	if err := lookUp(); err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	if list() == 0 {
		return nil
	}
	if err := add(); err != nil {
		return fmt.Errorf("add: %w", err)
	}
	if err := lookUp(); err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	if list() > 0 {
		return errors.New("a row is not there after it was added")
	}
	return nil
}

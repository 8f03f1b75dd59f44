package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

var (
	//go:embed fill_people.sql
	fillPeopleSQL string
	//go:embed fill_fleet.sql
	fillFleetSQL string
	//go:embed fill_issues.sql
	fillIssuesSQL string
	//go:embed fill_lift.sql
	fillLiftSQL string
	//go:embed fill_tasks.sql
	fillTasksSQL string
	//go:embed fill_restore.sql
	fillRestoreSQL string
	//go:embed fill_analyze.sql
	fillAnalyzeSQL string
)

// fillBatch bounds the tasks of one statement, so that its steps stay in memory.
const fillBatch = 20_000

// Size says how much history Fill makes. Zero means the default. A task has 1.5 usage rows on average.
type Size struct {
	Workspaces int // default 2: acme and globex
	Runtimes   int // default 12, and at least one for each workspace; they take 8 zones in turn
	Agents     int // default two for each runtime, and at least one
	Projects   int // default four for each workspace, and at least one
	Issues     int // default one for each 20 tasks, and at least one for each workspace
	Tasks      int // default 100,000
	Days       int // how far back the history goes, default 120

	// HotRuntime is the share, from 0 to 1, of all tasks that run on the first runtime, "central-1" in UTC. The
	// others share the rest. Default 0: a mild slope from the first runtime to the last.
	HotRuntime float64

	Seed  int64     // the same seed and Until give the same rows; ids do not depend on it
	Until time.Time // where the history ends; default the database's now
}

func (s Size) withDefaults() (Size, error) {
	s.Workspaces = orDefault(s.Workspaces, 2)
	s.Runtimes = orDefault(s.Runtimes, max(12, s.Workspaces))
	s.Agents = orDefault(s.Agents, 2*s.Runtimes)
	s.Projects = orDefault(s.Projects, 4*s.Workspaces)
	s.Tasks = orDefault(s.Tasks, 100_000)
	s.Issues = orDefault(s.Issues, max(s.Tasks/20, s.Workspaces))
	s.Days = orDefault(s.Days, 120)
	switch {
	case min(s.Workspaces, s.Tasks, s.Days) < 1:
		return s, errors.New("a demo needs a workspace, a task and a day at least")
	case s.Runtimes < s.Workspaces, s.Projects < s.Workspaces, s.Issues < s.Workspaces:
		return s, errors.New("a demo needs a runtime, a project and an issue in each workspace")
	case s.Agents < s.Runtimes:
		return s, errors.New("a demo needs an agent on each runtime")
	case s.HotRuntime < 0 || s.HotRuntime > 1:
		return s, errors.New("the share of the hot runtime is not between 0 and 1")
	}
	return s, nil
}

// Fill makes the history of an empty host in one transaction, then analyzes its tables. It returns ErrFilled when the host has rows
// and ErrForeign when there are tables that no host has.
func Fill(ctx context.Context, db DB, size Size) error {
	size, err := size.withDefaults()
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		found, err := surveyHost(ctx, tx)
		if err != nil {
			return err
		}
		if !found.marked && len(found.foreign) > 0 {
			return foreignError(found.foreign)
		}
		if filled, err := Filled(ctx, tx); err != nil {
			return err
		} else if filled {
			return ErrFilled
		}
		return fill(ctx, tx, size)
	})
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, fillAnalyzeSQL); err != nil {
		return fmt.Errorf("analyze host: %w", err)
	}
	return nil
}

func fill(ctx context.Context, tx pgx.Tx, size Size) error {
	if size.Until.IsZero() {
		if err := tx.QueryRow(ctx, "SELECT now()").Scan(&size.Until); err != nil {
			return fmt.Errorf("ask the database for the time: %w", err)
		}
	}
	// Compiling these expressions takes longer than computing them. The memory is for one batch.
	if _, err := tx.Exec(ctx, "SET LOCAL jit = off; SET LOCAL work_mem = '16MB'"); err != nil {
		return fmt.Errorf("prepare to fill: %w", err)
	}
	providers, names := make([]string, len(models)), make([]string, len(models))
	for i, m := range models {
		providers[i], names[i] = m.provider, m.name
	}
	args := pgx.NamedArgs{
		"workspaces": size.Workspaces,
		"runtimes":   size.Runtimes,
		"agents":     size.Agents,
		"projects":   size.Projects,
		"issues":     size.Issues,
		"tasks":      size.Tasks,
		"days":       size.Days,
		"hot":        size.HotRuntime,
		"seed":       size.Seed,
		"until":      size.Until,
		"providers":  providers,
		"models":     names,
	}
	for _, step := range []struct{ what, sql string }{
		{"workspaces and users", fillPeopleSQL},
		{"runtimes and agents", fillFleetSQL},
		{"projects and issues", fillIssuesSQL},
	} {
		if _, err := tx.Exec(ctx, step.sql, args); err != nil {
			return fmt.Errorf("fill %s: %w", step.what, err)
		}
	}
	if _, err := tx.Exec(ctx, fillLiftSQL); err != nil {
		return fmt.Errorf("lift keys and indexes: %w", err)
	}
	for first := 1; first <= size.Tasks; first += fillBatch {
		args["first"], args["last"] = first, min(first+fillBatch-1, size.Tasks)
		if _, err := tx.Exec(ctx, fillTasksSQL, args); err != nil {
			return fmt.Errorf("fill tasks and usage from %d: %w", first, err)
		}
	}
	if _, err := tx.Exec(ctx, fillRestoreSQL); err != nil {
		return fmt.Errorf("restore keys and indexes: %w", err)
	}
	return nil
}

type model struct{ provider, name string }

// models is what the demo's agents use; earlier ones more often.
var models = [...]model{
	{"anthropic", "claude-sonnet"},
	{"anthropic", "claude-opus"},
	{"openai", "gpt-5"},
	{"anthropic", "claude-haiku"},
	{"google", "gemini-pro"},
	{"openai", "gpt-5-mini"},
}

func orDefault(v, fallback int) int {
	if v == 0 {
		return fallback
	}
	return v
}

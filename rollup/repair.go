package rollup

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

// repairRounds bounds how often a repair goes round after the lists of differences are whole. What one round mends shows what the next must:
// a fact, then the buckets that were right for the wrong fact.
const repairRounds = 10

// RepairResult says what a repair did.
type RepairResult struct {
	// Tasks were counted again; Runtimes and Workspaces had their buckets made again.
	Tasks, Runtimes, Workspaces int
	// Quarantined are tasks that were to be counted again and cannot be.
	Quarantined int
	// Left is what the last verification still found. If it is empty, and Quarantined is 0, everything is mended.
	Left VerifyResult
}

func (r *RepairResult) add(other RepairResult) {
	r.Tasks += other.Tasks
	r.Runtimes += other.Runtimes
	r.Workspaces += other.Workspaces
	r.Quarantined += other.Quarantined
	r.Left.Runtimes += other.Left.Runtimes
	for table, n := range other.Left.Differences {
		r.Left.Differences[table] += n
	}
}

// VerifyAndRepair verifies, mends exactly what differs, and verifies again, until nothing differs. It does the work itself and needs no
// running workers; what one of them is at already is left to it.
func VerifyAndRepair(ctx context.Context, db DB, v Verification) (RepairResult, error) {
	var result RepairResult
	if !v.sample {
		// Entries below their mark, which somebody put there, would wait, and their tasks be left out.
		err := inTx(ctx, db, func(tx pgx.Tx) error { return queries.New(tx).ResetProgress(ctx) })
		if err != nil {
			return result, fmt.Errorf("reset progress: %w", err)
		}
	}
	for round := 1; ; round++ {
		work := newRepair()
		tell := v.Difference
		found, err := Verify(ctx, db, Verification{
			Runtimes: v.Runtimes, Workspaces: v.Workspaces, Progress: v.Progress, rest: v.rest, sample: v.sample,
			Difference: func(d Difference) {
				work.add(d)
				if tell != nil {
					tell(d)
				}
			},
		})
		stuck := round >= repairRounds && (!found.cut() || found.count() >= result.Left.count())
		result.Left = found
		if err != nil || len(found.Differences) == 0 || stuck {
			return result, err
		}
		if err := work.do(ctx, db, &result); err != nil {
			return result, fmt.Errorf("repair: %w", err)
		}
	}
}

// repair is what to do again.
type repair struct {
	tasks, runtimes, workspaces map[pgtype.UUID]bool
}

func newRepair() *repair {
	return &repair{make(map[pgtype.UUID]bool), make(map[pgtype.UUID]bool), make(map[pgtype.UUID]bool)}
}

func (r *repair) add(d Difference) {
	switch {
	case d.TaskID.Valid:
		r.tasks[d.TaskID] = true
	case d.RuntimeID.Valid:
		r.runtimes[d.RuntimeID] = true
	case d.WorkspaceID.Valid:
		r.workspaces[d.WorkspaceID] = true
	}
}

// do counts the tasks again, then makes the buckets again. In this order, since buckets are made from facts.
func (r *repair) do(ctx context.Context, db DB, result *RepairResult) error {
	tasks, runtimes, workspaces := sorted(r.tasks), sorted(r.runtimes), sorted(r.workspaces)
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := q.MarkTasks(ctx, tasks); err != nil {
			return fmt.Errorf("mark tasks: %w", err)
		}
		for _, runtime := range runtimes {
			if _, err := q.RequestRebuild(ctx, runtime); err != nil {
				return fmt.Errorf("request rebuild: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	result.Tasks += len(tasks)
	if len(tasks) > 0 {
		var shards []int16
		err := inTx(ctx, db, func(tx pgx.Tx) (err error) {
			shards, err = queries.New(tx).ListShards(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("list shards: %w", err)
		}
		drained, err := Drain(ctx, db, shards, nil) // A busy one is being drained by a worker.
		if err != nil {
			return err
		}
		for _, q := range drained.Quarantined {
			if r.tasks[q.TaskID] {
				result.Quarantined++
			}
		}
	}
	for _, runtime := range runtimes {
		rebuilt, err := Rebuild(ctx, db, runtime)
		if err != nil {
			return err
		}
		if !rebuilt.Busy { // It stays requested.
			result.Runtimes++
		}
	}
	if len(workspaces) > 0 {
		if err := rebuildWorkspaces(ctx, db, workspaces); err != nil {
			return fmt.Errorf("rebuild workspaces: %w", err)
		}
		result.Workspaces += len(workspaces)
	}
	return nil
}

// rebuildWorkspaces replaces the rollups of workspaces by what their facts contribute. It locks every shard, so that no drain changes a
// fact or a bucket meanwhile: rollups of workspaces have no lock of their own, since only a repair needs one. Until it is done all changes
// wait to be counted, for as long as a pass over the facts takes.
func rebuildWorkspaces(ctx context.Context, db DB, workspaces []pgtype.UUID) error {
	return inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		if err := prepareRebuild(ctx, q, "0"); err != nil {
			return err
		}
		if err := lockAllShards(ctx, q); err != nil {
			return err
		}
		for _, step := range []struct {
			name string
			do   func(context.Context, []pgtype.UUID) error
		}{
			{"delete workspace_usage_daily", q.DeleteWorkspaceUsage},
			{"delete workspace_usage_daily_by_agent", q.DeleteWorkspaceUsageByAgent},
			{"delete workspace_run_time_daily", q.DeleteWorkspaceRunTime},
			{"insert workspace_usage_daily", q.InsertWorkspaceUsage},
			{"insert workspace_usage_daily_by_agent", q.InsertWorkspaceUsageByAgent},
			{"insert workspace_run_time_daily", q.InsertWorkspaceRunTime},
		} {
			if err := step.do(ctx, workspaces); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
		}
		return nil
	})
}

func sorted(set map[pgtype.UUID]bool) []pgtype.UUID {
	return slices.SortedFunc(maps.Keys(set), func(a, b pgtype.UUID) int { return bytes.Compare(a.Bytes[:], b.Bytes[:]) })
}

package rollup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"

	"daybook/queries"
)

const (
	// verifyMemory is work_mem for a verification: its joins and sorts are those of a rebuild.
	verifyMemory = "128MB"
	// unitsAtOnce bounds the runtimes of one snapshot. A snapshot keeps Postgres from cleaning up behind the host.
	unitsAtOnce = 16
	// snapshotAttempts is how often a snapshot begins again that met a table which the host had locked for 900 ms.
	snapshotAttempts = 20
	// maxDifferences bounds what one comparison lists. A repair goes round until none is left.
	maxDifferences = 10_000
)

// ErrAllDirty means that every fact waits to be counted again, after a TRUNCATE, so there is no telling what is wrong.
var ErrAllDirty = errors.New("every task waits to be counted again")

// ErrUnknownUnit means that there is no such runtime or workspace.
var ErrUnknownUnit = errors.New("there is no such runtime or workspace")

// errVerifying means that another worker verifies the same.
var errVerifying = errors.New("another worker verifies this")

// maxWaiting bounds the count of entries that were left out.
const maxWaiting = 1_000_000

// noRuntime is the unit of all that has no runtime: tasks without one, and the rollups of workspaces.
var noRuntime = pgtype.UUID{Valid: true}

// Difference is a fact or bucket that is not what it must be.
type Difference struct {
	// Rollup is the table.
	Rollup string
	// Expected and Found are its rows as JSON; nil is no row.
	Expected, Found json.RawMessage
	// TaskID is set for facts, RuntimeID for buckets in a runtime's zone and for zones, WorkspaceID for those of workspaces.
	TaskID, RuntimeID, WorkspaceID pgtype.UUID
}

// Verification says what to verify and whom to tell. The zero value verifies everything.
type Verification struct {
	// Runtimes are verified with their facts, Workspaces with their rollups and the runtimes that the host says are theirs. Default
	// everything.
	Runtimes, Workspaces []pgtype.UUID
	// Difference is told of each difference, at most 10,000 of a table in each snapshot.
	Difference func(Difference)
	// Progress is told of how many runtimes are done, of how many.
	Progress func(done, total int)

	rest   bool // also verify all that has no runtime
	sample bool // leave out what another worker verifies now
}

// VerifyResult says what a verification found.
type VerifyResult struct {
	// Runtimes is how many were verified.
	Runtimes int
	// Differences counts those that were found, by table. If none was found it is empty.
	Differences map[string]int
	// Quarantined and Waiting are what was not compared with the source: tasks in quarantine, and entries that wait to be counted, of
	// which a million is the most that is counted.
	Quarantined, Waiting int64
}

func (r VerifyResult) count() int {
	n := 0
	for _, differences := range r.Differences {
		n += differences
	}
	return n
}

// cut tells whether there may be more differences than were listed.
func (r VerifyResult) cut() bool {
	for _, n := range r.Differences {
		if n >= maxDifferences {
			return true
		}
	}
	return false
}

// Verify compares the facts with the source, and every rollup with its facts, and writes nothing but what it found, for metrics. It has up to
// four transactions at a time. The runtimes are taken some at a time, each time in one snapshot, while the host writes and workers drain: what waits in the queue is
// not a difference, nor is a task in quarantine. It returns ErrAllDirty when there is no telling.
func Verify(ctx context.Context, db DB, v Verification) (VerifyResult, error) {
	units, rest, err := v.units(ctx, db)
	if err != nil {
		return VerifyResult{}, fmt.Errorf("verify: %w", err)
	}
	result := VerifyResult{Differences: make(map[string]int)}
	var mu sync.Mutex
	tell := func(d Difference) {
		mu.Lock()
		defer mu.Unlock()
		result.Differences[d.Rollup]++
		if v.Difference != nil {
			v.Difference(d)
		}
	}
	progress := func() {
		if v.Progress != nil {
			v.Progress(result.Runtimes, len(units))
		}
	}
	progress()
	group, groupCtx := v.group(ctx)
	group.Go(func() error {
		for batch := range slices.Chunk(units, unitsAtOnce) {
			if err := v.verifyRuntimes(groupCtx, db, batch, tell); err != nil {
				return err
			}
			result.Runtimes += len(batch)
			progress()
		}
		return nil
	})
	group.Go(func() error {
		for _, workspace := range rest {
			if err := v.verifyRest(groupCtx, db, workspace, tell); err != nil {
				return err
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return result, fmt.Errorf("verify: %w", err)
	}
	err = inSnapshot(ctx, db, false, func(q *queries.Queries) error {
		left, err := q.CountLeftOut(ctx, maxWaiting)
		result.Quarantined, result.Waiting = left.Quarantined, left.Waiting
		return err
	})
	if err != nil {
		return result, fmt.Errorf("verify: count what was left out: %w", err)
	}
	return result, nil
}

// group runs what does not depend on each other at the same time, but the parts of a sample one after the other: that is to be nobody in
// the way.
func (v Verification) group(ctx context.Context) (*errgroup.Group, context.Context) {
	group, ctx := errgroup.WithContext(ctx)
	if v.sample {
		group.SetLimit(1)
	}
	return group, ctx
}

// units returns the runtimes to verify, and the workspaces whose rollups are; a null one stands for everything that has no runtime.
func (v Verification) units(ctx context.Context, db DB) (runtimes, workspaces []pgtype.UUID, err error) {
	if v.sample {
		if v.rest {
			workspaces = []pgtype.UUID{{}}
		}
		return v.Runtimes, workspaces, nil
	}
	err = inSnapshot(ctx, db, false, func(q *queries.Queries) error {
		all, err := q.ListCountedRuntimes(ctx)
		if err != nil {
			return err
		}
		if len(v.Runtimes) == 0 && len(v.Workspaces) == 0 {
			runtimes, workspaces = all, []pgtype.UUID{{}}
			return nil
		}
		for _, runtime := range v.Runtimes {
			if !slices.Contains(all, runtime) {
				return fmt.Errorf("%w: %s", ErrUnknownUnit, runtime)
			}
		}
		runtimes, workspaces = slices.Clone(v.Runtimes), v.Workspaces
		for _, workspace := range v.Workspaces {
			known, err := q.IsWorkspaceKnown(ctx, workspace)
			if err != nil {
				return err
			}
			if !known {
				return fmt.Errorf("%w: %s", ErrUnknownUnit, workspace)
			}
			theirs, err := q.ListRuntimesOfWorkspace(ctx, workspace)
			if err != nil {
				return err
			}
			runtimes = append(runtimes, theirs...)
		}
		return nil
	})
	return runtimes, workspaces, err
}

// compare compares facts with the source and then buckets with facts, and tells of each difference. The two have a snapshot each: they do not
// depend on each other, and only the first keeps the host from locking its tables. It returns false if the units are one of a sample and
// another worker verifies them.
func (v Verification) compare(ctx context.Context, db DB, unit pgtype.UUID, tell func(Difference), facts, buckets comparison) (bool, error) {
	var found [2][]Difference
	group, ctx := v.group(ctx)
	for i, part := range [...]comparison{facts, buckets} {
		group.Go(func() error {
			return inSnapshot(ctx, db, i == 0, func(q *queries.Queries) (err error) {
				if v.sample {
					free, err := q.TryLockVerify(ctx, queries.TryLockVerifyParams{LockClass: lockClassVerify, Unit: unit})
					if err != nil {
						return err
					}
					if !free {
						return errVerifying
					}
				}
				found[i], err = part(ctx, q)
				return err
			})
		})
	}
	if err := group.Wait(); err != nil {
		if errors.Is(err, errVerifying) {
			return false, nil
		}
		return false, err
	}
	for _, d := range slices.Concat(found[0], found[1]) {
		tell(d)
	}
	return true, nil
}

// comparison returns what differs in one snapshot.
type comparison func(context.Context, *queries.Queries) ([]Difference, error)

// verifyRuntimes compares the facts and the buckets of runtimes, and notes the result of each.
func (v Verification) verifyRuntimes(ctx context.Context, db DB, runtimes []pgtype.UUID, tell func(Difference)) error {
	found := make(map[string]int)
	byRuntime := make(map[pgtype.UUID]map[string]int, len(runtimes))
	for _, runtime := range runtimes {
		byRuntime[runtime] = make(map[string]int)
	}
	count := func(d Difference) {
		tell(d)
		found[d.Rollup]++
		for _, runtime := range d.runtimes() {
			if counts := byRuntime[runtime]; counts != nil {
				counts[d.Rollup]++
			}
		}
	}
	done, err := v.compare(ctx, db, runtimes[0], count,
		func(ctx context.Context, q *queries.Queries) ([]Difference, error) {
			return compareFacts(ctx, q, runtimes, false)
		},
		func(ctx context.Context, q *queries.Queries) ([]Difference, error) {
			rows, err := q.CompareRuntimeBuckets(ctx, queries.CompareRuntimeBucketsParams{RuntimeIds: runtimes, MaxDifferences: maxDifferences})
			if err != nil {
				return nil, fmt.Errorf("compare buckets: %w", err)
			}
			found := make([]Difference, len(rows))
			for i, r := range rows {
				found[i] = Difference{Rollup: r.Rollup, RuntimeID: r.RuntimeID, Expected: r.Expected, Found: r.Found}
			}
			return found, nil
		})
	if err != nil || !done {
		return err
	}
	return noteVerified(ctx, db, byRuntime, found)
}

// verifyRest compares the facts of tasks without a runtime, and the rollups of a workspace or, if it is null, of all workspaces.
func (v Verification) verifyRest(ctx context.Context, db DB, workspace pgtype.UUID, tell func(Difference)) error {
	counts := make(map[string]int)
	count := func(d Difference) {
		tell(d)
		counts[d.Rollup]++
	}
	done, err := v.compare(ctx, db, noRuntime, count,
		func(ctx context.Context, q *queries.Queries) ([]Difference, error) {
			return compareFacts(ctx, q, nil, true)
		},
		func(ctx context.Context, q *queries.Queries) ([]Difference, error) {
			rows, err := q.CompareWorkspaceBuckets(ctx, queries.CompareWorkspaceBucketsParams{WorkspaceID: workspace, MaxDifferences: maxDifferences})
			if err != nil {
				return nil, fmt.Errorf("compare buckets of workspaces: %w", err)
			}
			found := make([]Difference, len(rows))
			for i, r := range rows {
				found[i] = Difference{Rollup: r.Rollup, WorkspaceID: r.WorkspaceID, Expected: r.Expected, Found: r.Found}
			}
			return found, nil
		})
	if err != nil || !done {
		return err
	}
	if workspace.Valid {
		return noteVerified(ctx, db, nil, counts) // One workspace does not tell how all of them are.
	}
	return noteVerified(ctx, db, map[pgtype.UUID]map[string]int{noRuntime: counts}, counts)
}

func compareFacts(ctx context.Context, q *queries.Queries, runtimes []pgtype.UUID, withoutRuntime bool) ([]Difference, error) {
	dirty, err := q.IsAllDirty(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for a TRUNCATE: %w", err)
	}
	if dirty {
		return nil, ErrAllDirty
	}
	rows, err := q.CompareFacts(ctx, queries.CompareFactsParams{
		RuntimeIds: runtimes, WithoutRuntime: withoutRuntime, MaxDifferences: maxDifferences,
	})
	if err != nil {
		return nil, fmt.Errorf("compare facts: %w", err)
	}
	found := make([]Difference, len(rows))
	for i, r := range rows {
		found[i] = Difference{Rollup: r.Rollup, TaskID: r.TaskID, Expected: r.Expected, Found: r.Found}
	}
	return found, nil
}

// runtimes are those that a difference is about: of a fact, the one that it is in and the one that it should be in.
func (d *Difference) runtimes() []pgtype.UUID {
	if d.RuntimeID.Valid {
		return []pgtype.UUID{d.RuntimeID}
	}
	var list []pgtype.UUID
	for _, row := range []json.RawMessage{d.Expected, d.Found} {
		var fact struct {
			RuntimeID pgtype.UUID `json:"runtime_id"`
		}
		if row != nil && json.Unmarshal(row, &fact) == nil && fact.RuntimeID.Valid && (len(list) == 0 || list[0] != fact.RuntimeID) {
			list = append(list, fact.RuntimeID)
		}
	}
	return list
}

// noteVerified notes the differences of each unit, and adds those that were found to the ones before.
func noteVerified(ctx context.Context, db DB, units map[pgtype.UUID]map[string]int, found map[string]int) error {
	return inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		for _, unit := range sorted(setOf(slices.Collect(maps.Keys(units)))) { // In order, as drains that ask for a verification.
			counts, err := json.Marshal(units[unit])
			if err != nil {
				return err
			}
			if err := q.PutVerification(ctx, queries.PutVerificationParams{Unit: unit, Differences: counts}); err != nil {
				return fmt.Errorf("note the result: %w", err)
			}
		}
		if len(found) == 0 {
			return nil
		}
		counts, err := json.Marshal(found)
		if err != nil {
			return err
		}
		if err := q.CountDrift(ctx, counts); err != nil {
			return fmt.Errorf("count differences: %w", err)
		}
		return nil
	})
}

// inSnapshot reads in one snapshot, of the source too if that is true. Where the host locks a whole table it gives way, and begins again.
func inSnapshot(ctx context.Context, db DB, source bool, do func(*queries.Queries) error) error {
	for attempt := 1; ; attempt++ {
		err := pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			q := queries.New(tx)
			if err := q.LimitVerifyLocks(ctx); err != nil {
				return fmt.Errorf("limit locks: %w", err)
			}
			if source {
				if err := q.LockSource(ctx); err != nil {
					return fmt.Errorf("lock the source: %w", err)
				}
			}
			err := q.PrepareVerify(ctx, queries.PrepareVerifyParams{IdleTimeout: idleTimeout, WorkMem: verifyMemory})
			if err != nil {
				return fmt.Errorf("prepare: %w", err)
			}
			return do(q)
		})
		if !isLockConflict(err) || attempt == snapshotAttempts {
			return err
		}
	}
}

// Sample says how much of a host to verify at once, so that all of it is verified in Period.
type Sample struct {
	// Period is the time in which everything is to be verified once, Every the time between two samples.
	Period, Every time.Duration
	// Enough, which may be nil, ends the sample before its next runtimes when it returns true.
	Enough func() bool
	// Difference is told of each difference.
	Difference func(Difference)
	// LookOnly leaves differences as they are. Default false: they are repaired.
	LookOnly bool
}

// VerifySample verifies, and repairs, the part of a host that has waited longest and whose turn it is.
func VerifySample(ctx context.Context, db DB, s Sample) (RepairResult, error) {
	var total RepairResult
	total.Left.Differences = make(map[string]int)
	due, err := s.due(ctx, db)
	if err != nil {
		return total, fmt.Errorf("verify a sample: %w", err)
	}
	var failed []error
	for len(due) > 0 && (s.Enough == nil || !s.Enough()) {
		batch := due[:min(unitsAtOnce, len(due))]
		due = due[len(batch):]
		v := Verification{Runtimes: batch, Difference: s.Difference, sample: true}
		if i := slices.Index(batch, noRuntime); i >= 0 {
			v.Runtimes = slices.Delete(slices.Clone(batch), i, i+1)
			v.rest = true
		}
		// One batch that cannot be verified must not keep the others from their turn.
		result, err := s.verify(ctx, db, v, batch)
		total.add(result)
		if err != nil {
			failed = append(failed, err)
		}
	}
	return total, errors.Join(failed...)
}

func (s Sample) verify(ctx context.Context, db DB, v Verification, units []pgtype.UUID) (result RepairResult, err error) {
	err = inTx(ctx, db, func(tx pgx.Tx) error { return queries.New(tx).NoteAttempt(ctx, units) })
	if err != nil {
		return result, fmt.Errorf("note the attempt: %w", err)
	}
	if s.LookOnly {
		result.Left, err = Verify(ctx, db, v)
		return result, err
	}
	return VerifyAndRepair(ctx, db, v)
}

// due returns the units that have waited longer than the period, the longest first, and no more than are needed to get round in time.
func (s Sample) due(ctx context.Context, db DB) ([]pgtype.UUID, error) {
	var due []pgtype.UUID
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		units, err := q.ListCountedRuntimes(ctx)
		if err != nil {
			return fmt.Errorf("list runtimes: %w", err)
		}
		units = append(units, noRuntime)
		if err := q.DeleteVerificationsOfOthers(ctx, units); err != nil {
			return fmt.Errorf("forget runtimes that are gone: %w", err)
		}
		share := float64(len(units)) * s.Every.Seconds() / s.Period.Seconds()
		due, err = q.ListUnitsToVerify(ctx, queries.ListUnitsToVerifyParams{
			Units: units, PeriodSeconds: s.Period.Seconds(), MaxUnits: int64(math.Ceil(share)),
		})
		if err != nil {
			return fmt.Errorf("list what is due: %w", err)
		}
		return nil
	})
	return due, err
}

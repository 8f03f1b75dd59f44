package rollup

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

const (
	// maxEntries bounds one drain transaction, and so how long it holds bucket rows that other shards need: some 100 ms.
	maxEntries = 4000
	// maxTasksOfMany bounds one that holds one lock for all runtimes: its tasks share few buckets, so each of them takes longer, and all rebuilds
	// wait for it.
	maxTasksOfMany = 2000
)

// maxRuntimes bounds the advisory locks of one transaction: one of more runtimes holds one lock for all. Postgres keeps all locks in one table of
// fixed size that the host needs too (max_locks_per_transaction × max_connections, 6,400 by default). Tests have less.
var maxRuntimes = 256

// progressStep is how many entries later a drain notes how far it is. It bounds the dead entries that the next one passes.
const progressStep = 1000

var prepareDrain = queries.PrepareDrainParams{IdleTimeout: idleTimeout, LockTimeout: drainLockTimeout}

// DrainResult says what a drain did.
type DrainResult struct {
	// Busy is set when other transactions hold all of the shards, or for too long hold what the drain needs. What was done before
	// stays done.
	Busy bool
	// Blocked is set when that is because somebody, a host that locks whole tables say, has held something that the drain needs for longer than it
	// waits.
	Blocked bool
	// Entries is the number of dirty entries that were counted and deleted, Tasks the number of tasks they named.
	Entries, Tasks int
	// Ages holds for each of these entries how many seconds it had waited when it was counted, BatchSeconds for each batch with entries how long
	// it took. Both are by the database's clock, which may be set back while they are measured.
	Ages, BatchSeconds []float64
	// Deferred is the number of entries left for a later drain because a rebuild holds their runtime.
	Deferred int
	// Quarantined lists the tasks that could not be applied.
	Quarantined []Quarantined
	// RejectedZones lists runtimes, counted for the first time, whose zone Postgres does not know. They count as UTC.
	RejectedZones []RejectedZone
	// BelowZero says whose buckets fell below zero.
	BelowZero BelowZero
	// Refused lists tasks that changed though they have usage from before the days that are open: see Prune. That usage stays as it was
	// counted.
	Refused []pgtype.UUID
}

func (r *DrainResult) add(other DrainResult) {
	r.Busy = r.Busy || other.Busy
	r.Blocked = r.Blocked || other.Blocked
	r.Entries += other.Entries
	r.Tasks += other.Tasks
	r.Ages = append(r.Ages, other.Ages...)
	r.BatchSeconds = append(r.BatchSeconds, other.BatchSeconds...)
	r.Deferred += other.Deferred
	r.Quarantined = append(r.Quarantined, other.Quarantined...)
	r.RejectedZones = append(r.RejectedZones, other.RejectedZones...)
	r.Refused = append(r.Refused, other.Refused...)
	r.BelowZero.Runtimes = append(r.BelowZero.Runtimes, other.BelowZero.Runtimes...)
	r.BelowZero.Workspaces = append(r.BelowZero.Workspaces, other.BelowZero.Workspaces...)
}

// Quarantined is a task that could not be applied, and why.
type Quarantined struct {
	TaskID pgtype.UUID
	Reason error
}

// RejectedZone is a runtime whose time zone Postgres does not know.
type RejectedZone struct {
	RuntimeID pgtype.UUID
	Timezone  string
}

// BelowZero lists whose buckets held less than a drain took back from them, which is only possible after somebody changed the ledger
// by hand. The drain has counted what it could, requested a rebuild of the runtimes, and put all of them first in the order of
// verification, which repairs workspaces.
type BelowZero struct {
	Runtimes, Workspaces []pgtype.UUID
}

// Drain counts the dirty entries of the shards, in batches of one transaction each, until none is left that it may count, or
// enough, which may be nil, returns true between two batches. It leaves out shards that another transaction holds. It is safe to call from
// any number of processes at once. A batch that fails because of a task's data is split until that task stands alone; then the task
// is quarantined. Any other error ends the drain and loses nothing: the entries stay for the next one.
func Drain(ctx context.Context, db DB, shards []int16, enough func() bool) (DrainResult, error) {
	return DrainFrom(ctx, db, shards, nil, enough)
}

// DrainFrom is Drain, from behind the entries of these numbers, one for each shard, and then from where the queue begins. With after nil it begins
// there.
func DrainFrom(ctx context.Context, db DB, shards []int16, after []int64, enough func() bool) (DrainResult, error) {
	var (
		total DrainResult
		pass  = newDrainPass(shards, after)
		limit = int32(maxEntries)
	)
	for enough == nil || !enough() {
		var batch drainBatch
		err := inTx(ctx, db, func(tx pgx.Tx) error {
			var err error
			batch, err = pass.drainOnce(ctx, queries.New(tx), limit)
			return err
		})
		if isZoneError(err) {
			// No task is to blame where a zone of buckets is not known any more. Its runtimes are rebuilt in UTC first.
			var unknown int64
			zerr := inTx(ctx, db, func(tx pgx.Tx) (err error) {
				unknown, err = queries.New(tx).RequestRebuildsOfUnknownZones(ctx)
				return err
			})
			if zerr != nil {
				return total, fmt.Errorf("request rebuilds of unknown zones: %w", zerr)
			}
			if unknown > 0 {
				total.Busy = true
				return total, nil
			}
		}
		switch {
		case isTaskError(err) && batch.claimed > 1:
			limit = int32(batch.claimed / 2) //nolint:gosec // At most maxEntries.
			continue
		case isTaskError(err) && batch.claimed == 1:
			alone, qerr := quarantine(ctx, db, batch.first, err)
			if isLockConflict(qerr) { // Somebody else is at the same task.
				total.Busy, total.Blocked = true, true
				return total, nil
			}
			if qerr != nil {
				return total, qerr
			}
			if alone {
				total.Quarantined = append(total.Quarantined, Quarantined{TaskID: batch.first.TaskID, Reason: err})
			}
			continue
		case isLockConflict(err) && len(pass.shards) > 1:
			// What one shard needs must not keep the others.
			for i, shard := range pass.shards {
				var from []int64
				if pass.partial {
					from = pass.last[i : i+1]
				}
				alone, err := DrainFrom(ctx, db, []int16{shard}, from, enough)
				total.add(alone)
				if err != nil {
					return total, err
				}
			}
			return total, nil
		case isLockConflict(err):
			batch.busy = true
			total.Blocked = true
		case err != nil:
			return total, fmt.Errorf("drain shards %v: %w", pass.shards, err)
		}
		if batch.busy {
			total.Busy = true
			return total, nil
		}
		total.add(batch.result)
		switch {
		case batch.done && pass.partial:
			// What is before the part has waited for longer, and nobody else may get to it.
			pass = newDrainPass(pass.shards, nil)
			continue
		case batch.done:
			return total, nil
		}
		pass = batch.next
		limit = nextSize(limit, batch.result.Entries+batch.result.Deferred, batch.cut, batch.many, maxEntries)
	}
	return total, nil
}

// nextSize is how much the batch after one of this size takes. A batch that was cut has read what it does not count, so the next one takes as much as
// that counted. Others grow, to most, or to maxTasksOfMany where one lock is held for many runtimes.
func nextSize(size int32, counted int, cut, many bool, most int32) int32 {
	if cut {
		return max(1, int32(counted)) //nolint:gosec // At most size.
	}
	if many {
		most = maxTasksOfMany
	}
	return min(2*size, most)
}

// drainPass is a way through some shards of the queue, from its beginning to its end, and where it is.
type drainPass struct {
	shards []int16
	// Of each shard: the last entry that was looked at, or -1, and the first that was left there, or the largest number.
	last, left []int64
	// snapshot is that of the first claim. What it does not see may still come, with any number.
	snapshot string
	// partial is set if the pass did not begin where the queue does: then it tells nothing of how far the queue is drained.
	partial bool
}

func newDrainPass(shards []int16, after []int64) drainPass {
	pass := drainPass{
		shards: shards, last: slices.Repeat([]int64{-1}, len(shards)), left: slices.Repeat([]int64{math.MaxInt64}, len(shards)),
	}
	if after != nil {
		pass.last, pass.partial = slices.Clone(after), true
	}
	return pass
}

// keep returns the pass through those of its shards that are locked.
func (p drainPass) keep(locked []int16) drainPass {
	kept := drainPass{snapshot: p.snapshot, partial: p.partial}
	for i, shard := range p.shards {
		if slices.Contains(locked, shard) {
			kept.shards = append(kept.shards, shard)
			kept.last = append(kept.last, p.last[i])
			kept.left = append(kept.left, p.left[i])
		}
	}
	return kept
}

// drainBatch says what one drain transaction did.
type drainBatch struct {
	busy    bool
	done    bool // the end of the queue was reached
	cut     bool // some of what was claimed was left, for the transaction holds as many runtimes, or counts as many tasks, as it may
	many    bool // it held one lock for all runtimes
	claimed int  // entries that were claimed
	first   queries.ClaimDirtyTasksRow
	result  DrainResult
	next    drainPass // where the next batch goes on
}

// drainOnce is the body of a drain transaction. The claim and the reading of the source are separate statements: in one, the
// source would be read as it was before the shards were locked, and a change could be counted twice or not at all.
func (p drainPass) drainOnce(ctx context.Context, q *queries.Queries, limit int32) (drainBatch, error) {
	var locked []int16
	err := q.Pipeline(ctx,
		func(q *queries.Queries) error { return wrap("prepare", q.PrepareDrain(ctx, prepareDrain)) },
		func(q *queries.Queries) (err error) {
			locked, err = q.TryLockShards(ctx, queries.TryLockShardsParams{LockClass: lockClassShard, Shards: widen(p.shards)})
			return wrap("lock shards", err)
		})
	if err != nil {
		return drainBatch{}, err
	}
	if len(locked) == 0 {
		return drainBatch{busy: true}, nil
	}
	next := p.keep(locked)
	// Twice the share of a shard is enough where all have much, and costs little where it is not.
	ofShard := max(1, 2*limit/int32(len(next.shards))) //nolint:gosec // Some shards.
	entries, err := q.ClaimDirtyTasks(ctx, queries.ClaimDirtyTasksParams{
		Shards: next.shards, AfterIds: next.last, MaxEntries: limit, ShardEntries: ofShard,
	})
	if err != nil {
		return drainBatch{}, fmt.Errorf("claim dirty tasks: %w", err)
	}
	batch := drainBatch{claimed: len(entries)}
	if len(entries) > 0 {
		batch.first = entries[0]
		if next.snapshot == "" {
			next.snapshot = batch.first.Snapshot
		}
		if err := next.count(ctx, q, entries, &batch); err != nil {
			return batch, err
		}
	}
	batch.done = len(entries) < int(limit) && !anyShardHas(entries, ofShard) && !batch.cut
	batch.next = next
	if batch.done && next.snapshot != "" && !next.partial {
		err := q.AdvanceProgress(ctx, queries.AdvanceProgressParams{
			Shards: next.shards, LastIds: next.last, LeftIds: next.left, Snapshot: next.snapshot, MinStep: progressStep,
		})
		if err != nil {
			return batch, fmt.Errorf("note progress: %w", err)
		}
	}
	return batch, nil
}

// anyShardHas tells whether so many of the entries are of one shard.
func anyShardHas(entries []queries.ClaimDirtyTasksRow, n int32) bool {
	of := make(map[int16]int32)
	for i := range entries {
		if of[entries[i].Shard]++; of[entries[i].Shard] >= n {
			return true
		}
	}
	return false
}

// count counts entries that are claimed and deletes them, moves the pass on, and says in the batch what it did.
func (p drainPass) count(ctx context.Context, q *queries.Queries, entries []queries.ClaimDirtyTasksRow, batch *drainBatch) error {
	tasks := make([]pgtype.UUID, 0, len(entries))
	seen := make(map[pgtype.UUID]bool, len(entries))
	for _, e := range entries {
		if !seen[e.TaskID] {
			seen[e.TaskID] = true
			tasks = append(tasks, e.TaskID)
		}
	}
	applied, err := apply(ctx, q, tasks)
	if err != nil {
		return err
	}
	batch.cut, batch.many = len(applied.notReached) > 0, applied.many
	result := &batch.result
	result.Tasks, result.RejectedZones, result.BelowZero = len(applied.applied), applied.rejectedZones, applied.belowZero
	isApplied, isNotReached := setOf(applied.applied), setOf(applied.notReached)
	var counted queries.DeleteDirtyEntriesParams
	for _, e := range entries {
		if isNotReached[e.TaskID] {
			// Later entries of earlier tasks may follow; they can wait for the next batch.
			break
		}
		i := slices.Index(p.shards, e.Shard)
		p.last[i] = e.ID
		if isApplied[e.TaskID] {
			counted.Shards = append(counted.Shards, e.Shard)
			counted.Ids = append(counted.Ids, e.ID)
		} else {
			p.left[i] = min(p.left[i], e.ID)
			result.Deferred++
		}
	}
	if n := len(applied.refused); n > 0 {
		result.Refused = applied.refused
		err := q.RefuseChanges(ctx, queries.RefuseChangesParams{Tasks: int64(n), LastTask: applied.refused[n-1]})
		if err != nil {
			return fmt.Errorf("note refused changes: %w", err)
		}
	}
	deleted, err := q.DeleteDirtyEntries(ctx, counted)
	if err != nil {
		return fmt.Errorf("delete dirty entries: %w", err)
	}
	for _, d := range deleted {
		result.Ages = append(result.Ages, max(d.AgeSeconds, 0))
	}
	if n := len(deleted); n > 0 {
		result.BatchSeconds = []float64{max(deleted[n-1].BatchSeconds, 0)}
	}
	result.Entries = len(deleted)
	return nil
}

// applyResult says what apply did with each of its tasks.
type applyResult struct {
	applied       []pgtype.UUID
	deferred      []pgtype.UUID // a rebuild holds their runtime
	notReached    []pgtype.UUID // the transaction holds as many runtimes, or counts as many tasks, as it may
	many          bool          // it held one lock for all runtimes
	rejectedZones []RejectedZone
	belowZero     BelowZero
	refused       []pgtype.UUID // applied but for their usage of closed days
}

// apply makes facts and buckets count the tasks as the source has them now. The caller holds the shard of every task.
func apply(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (applyResult, error) {
	var result applyResult
	l, rejected, err := readLedgerWithZones(ctx, q, tasks)
	if err != nil {
		return result, err
	}
	result.rejectedZones = rejected
	reached, held, err := l.lockRuntimes(ctx, q)
	if err != nil {
		return result, err
	}
	result.notReached, result.many = tasks[reached:], held.many
	usage := 0
	for i := range l.tasks[:reached] {
		usage += max(len(l.tasks[i].before.usage), len(l.tasks[i].after.usage))
	}
	d := newDelta(reached, usage)
	var free []*taskChange
	for i := range l.tasks[:reached] {
		t := &l.tasks[i]
		var buffer [4]pgtype.UUID
		if slices.ContainsFunc(t.runtimes(buffer[:0]), func(runtime pgtype.UUID) bool { return !held.runtimes[runtime] }) {
			result.deferred = append(result.deferred, t.id)
			continue
		}
		free = append(free, t)
		result.applied = append(result.applied, t.id)
		if t.refused {
			result.refused = append(result.refused, t.id)
		}
		if err := d.add(&t.before, -1); err != nil {
			return result, err
		}
		if err := d.add(&t.after, +1); err != nil {
			return result, err
		}
	}
	if err := l.giveNumbers(ctx, q); err != nil {
		return result, err
	}
	facts := append(l.writeUsageFacts(ctx, free), l.writeTaskFacts(ctx, free)...)
	forgive := func(q *queries.Queries) error { return wrap("forgive tasks", q.ForgiveTasks(ctx, result.applied)) }
	if result.belowZero, err = d.write(ctx, q, facts, forgive); err != nil {
		return result, fmt.Errorf("write facts and buckets: %w", err)
	}
	return result, result.belowZero.askForRepair(ctx, q)
}

// askForRepair requests rebuilds of the runtimes, and a verification of everything that is concerned: the facts may be wrong too.
func (b BelowZero) askForRepair(ctx context.Context, q *queries.Queries) error {
	units := b.Runtimes
	if len(b.Workspaces) > 0 {
		units = append(slices.Clone(units), noRuntime)
	}
	if len(units) == 0 {
		return nil
	}
	if err := q.RequestRebuilds(ctx, b.Runtimes); err != nil {
		return fmt.Errorf("request rebuilds: %w", err)
	}
	if err := q.RequestVerifications(ctx, units); err != nil {
		return fmt.Errorf("request verifications: %w", err)
	}
	return nil
}

// readLedgerWithZones reads the ledger, and once more if a runtime is counted for the first time and had no zone yet. It returns the
// zones of such runtimes that Postgres does not know.
func readLedgerWithZones(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (*ledger, []RejectedZone, error) {
	l, err := readLedger(ctx, q, tasks)
	if err != nil {
		return nil, nil, err
	}
	added := l.withoutZone()
	if len(added) == 0 {
		return l, nil, nil
	}
	rows, err := q.EnsureRuntimeRollups(ctx, added)
	if err != nil {
		return nil, nil, fmt.Errorf("ensure runtime rollups: %w", err)
	}
	var rejected []RejectedZone
	for _, r := range rows {
		rejected = append(rejected, RejectedZone{RuntimeID: r.RuntimeID, Timezone: r.HostTimezone})
	}
	l, err = readLedger(ctx, q, tasks)
	return l, rejected, err
}

// heldRuntimes are the runtimes that a transaction has locked, one by one or, if they are many, all by one lock.
type heldRuntimes struct {
	many     bool
	runtimes map[pgtype.UUID]bool
}

// runtimesOf returns how many of the tasks touch so many runtimes, one task at least, and those runtimes.
func runtimesOf(tasks []taskChange, most int) (reached int, runtimes []pgtype.UUID) {
	seen := make(map[pgtype.UUID]bool)
	for i := range tasks {
		var buffer [4]pgtype.UUID
		for _, runtime := range tasks[i].runtimes(buffer[:0]) {
			if !seen[runtime] {
				seen[runtime] = true
				runtimes = append(runtimes, runtime)
			}
		}
		if len(runtimes) >= most {
			return i + 1, runtimes
		}
	}
	return len(tasks), runtimes
}

// lockRuntimes tries to lock the runtimes of the tasks. It returns how many of the tasks it got to, and those of their runtimes that it got and whose
// zone is the one that the ledger was read in. The others are being rebuilt, or were a moment ago.
func (l *ledger) lockRuntimes(ctx context.Context, q *queries.Queries) (int, heldRuntimes, error) {
	reached, runtimes := runtimesOf(l.tasks, maxRuntimes)
	if reached < len(l.tasks) {
		most := min(len(l.tasks), maxTasksOfMany)
		held, err := l.lockManyRuntimes(ctx, q, l.tasks[:most])
		if err != nil || held.many {
			return most, held, err
		}
	}
	var locks []queries.TryLockRuntimesRow
	var zones []queries.ListRuntimeZonesRow
	err := q.Pipeline(ctx,
		func(q *queries.Queries) (err error) {
			locks, err = q.TryLockRuntimes(ctx, queries.TryLockRuntimesParams{LockClass: lockClassRuntime, RuntimeIds: runtimes})
			return wrap("lock runtimes", err)
		},
		func(q *queries.Queries) (err error) {
			zones, err = q.ListRuntimeZones(ctx, runtimes)
			return wrap("list runtime zones", err)
		})
	if err != nil {
		return 0, heldRuntimes{}, err
	}
	held := heldRuntimes{runtimes: l.withSameZone(zones)}
	for _, lock := range locks {
		held.runtimes[lock.RuntimeID] = held.runtimes[lock.RuntimeID] && lock.Locked
	}
	return reached, held, nil
}

// lockManyRuntimes tries to lock all runtimes of the tasks by the one lock that is for that. Whoever rebuilds a runtime first locks that one, and then
// waits until nobody has the other: so either the lock of the runtime is seen here, or the rebuild waits.
func (l *ledger) lockManyRuntimes(ctx context.Context, q *queries.Queries, tasks []taskChange) (heldRuntimes, error) {
	free, err := q.TryLockManyRuntimes(ctx, lockClassManyRuntimes)
	if err != nil || !free {
		return heldRuntimes{}, wrap("lock many runtimes", err)
	}
	_, runtimes := runtimesOf(tasks, math.MaxInt)
	var rebuilt []pgtype.UUID
	var zones []queries.ListRuntimeZonesRow
	err = q.Pipeline(ctx,
		func(q *queries.Queries) (err error) {
			rebuilt, err = q.ListLockedRuntimes(ctx, queries.ListLockedRuntimesParams{LockClass: lockClassRuntime, RuntimeIds: runtimes})
			return wrap("list locked runtimes", err)
		},
		func(q *queries.Queries) (err error) {
			zones, err = q.ListRuntimeZones(ctx, runtimes)
			return wrap("list runtime zones", err)
		})
	if err != nil {
		return heldRuntimes{}, err
	}
	held := heldRuntimes{many: true, runtimes: l.withSameZone(zones)}
	for _, runtime := range rebuilt {
		held.runtimes[runtime] = false
	}
	return held, nil
}

// withSameZone tells of runtimes whether their zone is the one that the ledger was read in.
func (l *ledger) withSameZone(zones []queries.ListRuntimeZonesRow) map[pgtype.UUID]bool {
	same := make(map[pgtype.UUID]bool, len(zones))
	for _, z := range zones {
		same[z.RuntimeID] = z.Timezone == l.zones[z.RuntimeID]
	}
	return same
}

// quarantine sets aside the task of an entry that failed alone, and deletes that entry. It does nothing if somebody else has
// drained the entry meanwhile.
func quarantine(ctx context.Context, db DB, entry queries.ClaimDirtyTasksRow, reason error) (bool, error) {
	var deleted []queries.DeleteDirtyEntriesRow
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		err := q.PrepareDrain(ctx, prepareDrain)
		if err != nil {
			return err
		}
		deleted, err = q.DeleteDirtyEntries(ctx, queries.DeleteDirtyEntriesParams{Shards: []int16{entry.Shard}, Ids: []int64{entry.ID}})
		if err != nil || len(deleted) == 0 {
			return err
		}
		return q.QuarantineTask(ctx, queries.QuarantineTaskParams{TaskID: entry.TaskID, Error: reason.Error()})
	})
	if err != nil {
		return false, fmt.Errorf("quarantine task %s: %w", entry.TaskID, err)
	}
	return len(deleted) > 0, nil
}

func setOf(ids []pgtype.UUID) map[pgtype.UUID]bool {
	set := make(map[pgtype.UUID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

// widen returns shards as the second keys of their locks.
func widen(shards []int16) []int32 {
	keys := make([]int32, len(shards))
	for i, shard := range shards {
		keys[i] = int32(shard)
	}
	return keys
}

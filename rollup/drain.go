package rollup

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/queries"
)

const (
	// maxEntries bounds one drain transaction, and so how long it holds bucket rows that other shards need: some 100 ms.
	maxEntries = 2000
	// maxRuntimes bounds the advisory locks of one transaction. Postgres keeps them all in one table of fixed size that
	// the host needs too (max_locks_per_transaction × max_connections, 6,400 by default).
	maxRuntimes = 256
)

var prepareDrain = queries.PrepareDrainParams{IdleTimeout: idleTimeout, LockTimeout: drainLockTimeout}

// DrainResult says what a drain did.
type DrainResult struct {
	// Busy is set when another transaction holds the shard, or for too long holds what the drain needs. What was done before
	// stays done.
	Busy bool
	// Entries is the number of dirty entries that were counted and deleted, Tasks the number of tasks they named.
	Entries, Tasks int
	// Deferred is the number of entries left for a later drain because a rebuild holds their runtime.
	Deferred int
	// Quarantined lists the tasks that could not be applied.
	Quarantined []Quarantined
	// RejectedZones lists runtimes, counted for the first time, whose zone Postgres does not know. They count as UTC.
	RejectedZones []RejectedZone
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

// Drain counts the dirty entries of one shard, in batches of one transaction each, until none is left that it may count, or
// enough, which may be nil, returns true between two batches. It is safe to call from any number of processes at once. A batch
// that fails because of a task's data is split until that task stands alone; then the task is quarantined. Any other error
// ends the drain and loses nothing: the entries stay for the next one.
func Drain(ctx context.Context, db DB, shard int16, enough func() bool) (DrainResult, error) {
	var (
		total DrainResult
		after int64
		limit = int32(maxEntries)
	)
	for enough == nil || !enough() {
		var batch drainBatch
		err := inTx(ctx, db, func(tx pgx.Tx) error {
			var err error
			batch, err = drainOnce(ctx, queries.New(tx), shard, after, limit)
			return err
		})
		switch {
		case isTaskError(err) && batch.claimed > 1:
			limit = int32(batch.claimed / 2) //nolint:gosec // At most maxEntries.
			continue
		case isTaskError(err) && batch.claimed == 1:
			alone, qerr := quarantine(ctx, db, shard, batch.first, err)
			if qerr != nil {
				return total, qerr
			}
			if alone {
				total.Quarantined = append(total.Quarantined, Quarantined{TaskID: batch.first.TaskID, Reason: err})
			}
			continue
		case isLockConflict(err):
			batch.busy = true
		case err != nil:
			return total, fmt.Errorf("drain shard %d: %w", shard, err)
		}
		if batch.busy {
			total.Busy = true
			return total, nil
		}
		total.Entries += batch.entries
		total.Tasks += batch.tasks
		total.Deferred += batch.deferred
		total.RejectedZones = append(total.RejectedZones, batch.rejectedZones...)
		if batch.done {
			return total, nil
		}
		after = batch.lastID
		limit = min(2*limit, maxEntries)
	}
	return total, nil
}

// drainBatch says what one drain transaction did.
type drainBatch struct {
	busy          bool
	done          bool // the end of the queue was reached
	claimed       int  // entries that were claimed
	first         queries.ClaimDirtyTasksRow
	lastID        int64 // the last entry that was looked at
	entries       int
	tasks         int
	deferred      int
	rejectedZones []RejectedZone
}

// drainOnce is the body of a drain transaction. The claim and the reading of the source are separate statements: in one, the
// source would be read as it was before the shard was locked, and a change could be counted twice or not at all.
func drainOnce(ctx context.Context, q *queries.Queries, shard int16, after int64, limit int32) (drainBatch, error) {
	if err := q.PrepareDrain(ctx, prepareDrain); err != nil {
		return drainBatch{}, fmt.Errorf("prepare: %w", err)
	}
	locked, err := q.TryLockShard(ctx, queries.TryLockShardParams{LockClass: lockClassShard, Shard: int32(shard)})
	if err != nil {
		return drainBatch{}, fmt.Errorf("lock shard: %w", err)
	}
	if !locked {
		return drainBatch{busy: true}, nil
	}
	entries, err := q.ClaimDirtyTasks(ctx, queries.ClaimDirtyTasksParams{Shard: shard, AfterID: after, MaxEntries: limit})
	if err != nil {
		return drainBatch{}, fmt.Errorf("claim dirty tasks: %w", err)
	}
	batch := drainBatch{claimed: len(entries), done: len(entries) < int(limit)}
	if len(entries) == 0 {
		return batch, nil
	}
	batch.first = entries[0]
	tasks := make([]pgtype.UUID, 0, len(entries))
	seen := make(map[pgtype.UUID]bool, len(entries))
	for _, e := range entries {
		if !seen[e.TaskID] {
			seen[e.TaskID] = true
			tasks = append(tasks, e.TaskID)
		}
	}
	result, err := apply(ctx, q, tasks)
	if err != nil {
		return batch, err
	}
	if len(result.notReached) > 0 {
		batch.done = false
	}
	applied, notReached := setOf(result.applied), setOf(result.notReached)
	var counted []int64
	for _, e := range entries {
		if notReached[e.TaskID] {
			// Later entries of earlier tasks may follow; they can wait for the next batch.
			break
		}
		batch.lastID = e.ID
		if applied[e.TaskID] {
			counted = append(counted, e.ID)
		} else {
			batch.deferred++
		}
	}
	if _, err := q.DeleteDirtyEntries(ctx, queries.DeleteDirtyEntriesParams{Shard: shard, Ids: counted}); err != nil {
		return batch, fmt.Errorf("delete dirty entries: %w", err)
	}
	batch.entries, batch.tasks, batch.rejectedZones = len(counted), len(result.applied), result.rejectedZones
	return batch, nil
}

// applyResult says what apply did with each of its tasks.
type applyResult struct {
	applied       []pgtype.UUID
	deferred      []pgtype.UUID // a rebuild holds their runtime
	notReached    []pgtype.UUID // the transaction holds as many runtimes as it may
	rejectedZones []RejectedZone
}

// apply makes facts and buckets count the tasks as the source has them now. The caller holds the shard of every task.
func apply(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (applyResult, error) {
	var result applyResult
	l, rejected, err := readLedgerWithZones(ctx, q, tasks)
	if err != nil {
		return result, err
	}
	result.rejectedZones = rejected
	tasks, result.notReached = l.cut(tasks)
	held, err := l.lockRuntimes(ctx, q, tasks)
	if err != nil {
		return result, err
	}
	d := newDelta()
	for _, task := range tasks {
		free := true
		l.runtimesOf(task, func(runtime pgtype.UUID) { free = free && held[runtime] })
		if !free {
			result.deferred = append(result.deferred, task)
			continue
		}
		result.applied = append(result.applied, task)
		if err := d.add(l.before[task], -1); err != nil {
			return result, err
		}
		if err := d.add(l.after[task], +1); err != nil {
			return result, err
		}
	}
	if err := l.writeFacts(ctx, q, result.applied); err != nil {
		return result, err
	}
	if err := d.write(ctx, q); err != nil {
		return result, fmt.Errorf("write buckets: %w", err)
	}
	if err := q.ForgiveTasks(ctx, result.applied); err != nil {
		return result, fmt.Errorf("forgive tasks: %w", err)
	}
	return result, nil
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

// cut splits the tasks where the transaction would hold more runtimes than it may. The first part is never empty.
func (l *ledger) cut(tasks []pgtype.UUID) (reached, notReached []pgtype.UUID) {
	runtimes := make(map[pgtype.UUID]bool)
	for i, task := range tasks {
		l.runtimesOf(task, func(runtime pgtype.UUID) { runtimes[runtime] = true })
		if len(runtimes) >= maxRuntimes {
			return tasks[:i+1], tasks[i+1:]
		}
	}
	return tasks, nil
}

// lockRuntimes tries to lock the runtimes of the tasks, and returns those that it got and whose zone is the one that the ledger
// was read in. The others are being rebuilt, or were a moment ago.
func (l *ledger) lockRuntimes(ctx context.Context, q *queries.Queries, tasks []pgtype.UUID) (map[pgtype.UUID]bool, error) {
	wanted := make(map[pgtype.UUID]bool)
	for _, task := range tasks {
		l.runtimesOf(task, func(runtime pgtype.UUID) { wanted[runtime] = true })
	}
	runtimes := slices.Collect(maps.Keys(wanted))
	locks, err := q.TryLockRuntimes(ctx, queries.TryLockRuntimesParams{LockClass: lockClassRuntime, RuntimeIds: runtimes})
	if err != nil {
		return nil, fmt.Errorf("lock runtimes: %w", err)
	}
	zones, err := q.ListRuntimeZones(ctx, runtimes)
	if err != nil {
		return nil, fmt.Errorf("list runtime zones: %w", err)
	}
	held := make(map[pgtype.UUID]bool, len(locks))
	for _, z := range zones {
		held[z.RuntimeID] = z.Timezone == l.zones[z.RuntimeID]
	}
	for _, lock := range locks {
		held[lock.RuntimeID] = held[lock.RuntimeID] && lock.Locked
	}
	return held, nil
}

// quarantine sets aside the task of an entry that failed alone, and deletes that entry. It does nothing if somebody else has
// drained the entry meanwhile.
func quarantine(ctx context.Context, db DB, shard int16, entry queries.ClaimDirtyTasksRow, reason error) (bool, error) {
	var deleted int64
	err := inTx(ctx, db, func(tx pgx.Tx) error {
		q := queries.New(tx)
		err := q.PrepareDrain(ctx, prepareDrain)
		if err != nil {
			return err
		}
		deleted, err = q.DeleteDirtyEntries(ctx, queries.DeleteDirtyEntriesParams{Shard: shard, Ids: []int64{entry.ID}})
		if err != nil || deleted == 0 {
			return err
		}
		return q.QuarantineTask(ctx, queries.QuarantineTaskParams{TaskID: entry.TaskID, Error: reason.Error()})
	})
	if err != nil {
		return false, fmt.Errorf("quarantine task %s: %w", entry.TaskID, err)
	}
	return deleted > 0, nil
}

func setOf(ids []pgtype.UUID) map[pgtype.UUID]bool {
	set := make(map[pgtype.UUID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}

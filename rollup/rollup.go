// Package rollup keeps the ledger and the buckets: it drains dirty entries, rebuilds runtimes, backfills, verifies, repairs, closes old
// days, and sets aside tasks that cannot be applied. It holds all arithmetic and all meaning of time zones, most of it as SQL.
//
// The invariant: whenever a transaction commits, every bucket equals the sum of what the facts contribute to it, in
// the zone that runtime_rollup holds; and once no dirty entry is left, the facts equal the source. Facts and buckets are
// written here and nowhere else.
//
// Who may write what is decided by advisory locks that end with their transaction. A drain holds its shard alone,
// and with it the facts of the shard's tasks, and every runtime that it touches shared, or where these are very many one
// lock for all. A rebuild holds its runtime alone. Drains only try for locks and never wait for them, so no cycle can form.
package rollup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"daybook/queries"
)

// DB begins transactions. A pgxpool.Pool is one.
type DB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// inTx runs do in a transaction of its own. Everything here rests on READ COMMITTED, whatever the database's default is.
func inTx(ctx context.Context, db DB, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, do)
}

// wrap says what failed, if something did.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// inTxPatiently is inTx, again and again while somebody else holds what is needed. Each try waits for it, so this does not spin.
func inTxPatiently(ctx context.Context, db DB, do func(pgx.Tx) error) error {
	for {
		if err := inTx(ctx, db, do); !isLockConflict(err) {
			return err
		}
	}
}

// The first keys of Daybook's two-key advisory locks. The second is a shard, or the hash of a runtime's id; runtimes whose
// hashes collide wait for each other, nothing worse.
const (
	lockClassShard    int32 = 0x6461_7901
	lockClassRuntime  int32 = 0x6461_7902
	lockClassRebuild  int32 = 0x6461_7903
	lockClassBackfill int32 = 0x6461_7904
	lockClassVerify   int32 = 0x6461_7905
	lockClassPrune    int32 = 0x6461_7906
	// lockClassManyRuntimes has one lock, which stands for all runtimes.
	lockClassManyRuntimes int32 = 0x6461_7907
)

// idleTimeout is how long a transaction of ours may stand still before Postgres ends it and frees its locks. A worker
// that is alive is never idle for more than some milliseconds.
const idleTimeout = "3s"

// drainLockTimeout bounds a drain's wait for bucket rows and for tables that the host locks whole.
const drainLockTimeout = "900ms"

var prepareList = queries.PrepareListParams{IdleTimeout: idleTimeout, LockTimeout: drainLockTimeout}

// What cannot be counted, whatever is tried.
var (
	errOverflow = errors.New("sum is out of the range of bigint")
	errInfinite = errors.New("a time is infinite: it falls on no day")
	errTwice    = errors.New("the host has its usage of a provider and model twice")
)

// isTaskError tells whether err is about the data of the tasks in hand, so that the same tasks would fail again and others
// would not. SQLSTATE classes 22 (data exception), 23 (integrity constraint violation) and 54 (program limit exceeded: a name that is too long
// for an index).
func isTaskError(err error) bool {
	if errors.Is(err, errOverflow) || errors.Is(err, errInfinite) || errors.Is(err, errTwice) || errors.Is(err, errNumberGone) {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains([]string{"22", "23", "54"}, pgErr.Code[:2])
}

// isZoneError tells whether err is that Postgres does not know a zone (SQLSTATE 22023), among other things of that kind.
func isZoneError(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "22023"
}

// isLockConflict tells whether err is that somebody else holds what is needed: lock_timeout (SQLSTATE 55P03), or a deadlock
// (40P01) where the server looks for one before the timeout, or that it has written a bucket meanwhile (40001). Nothing was done, and another
// try may go through.
func isLockConflict(err error) bool {
	if errors.Is(err, errFactChanged) {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && slices.Contains([]string{"55P03", "40P01", "40001"}, pgErr.Code)
}

package rollup_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

// play writes a random history while drains, rebuilds and a backfill run beside it on db, and returns when nothing is left to do.
func play(ctx context.Context, pool *pgxpool.Pool, db rollup.DB, config history.Config) error {
	group, groupCtx := errgroup.WithContext(ctx)
	var over atomic.Bool
	group.Go(func() error {
		defer over.Store(true)
		return history.Play(groupCtx, pool, config)
	})
	for worker := range uint64(4) {
		random := rand.New(rand.NewPCG(config.Seed, 1000+worker))
		group.Go(func() error {
			for !over.Load() {
				if err := work(groupCtx, pool, db, someShards(random)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error { return rollup.Backfill(groupCtx, db, rollup.BackfillConfig{}) })
	if err := group.Wait(); err != nil {
		return err
	}
	for range 100 {
		pending, err := history.Pending(ctx, pool)
		if err != nil || !pending {
			return err
		}
		if err := work(ctx, pool, db, allShards); err != nil {
			return err
		}
	}
	return errNotEmpty
}

var allShards = []int16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// someShards returns all of the shards, as the tick of a worker with little to do does, or a few.
func someShards(random *rand.Rand) []int16 {
	if random.IntN(4) == 0 {
		return allShards
	}
	first := random.IntN(len(allShards))
	return allShards[first:min(first+1+random.IntN(3), len(allShards))]
}

var errNotEmpty = errors.New("the queue does not become empty")

// work does a little of all that workers do.
func work(ctx context.Context, pool *pgxpool.Pool, db rollup.DB, shards []int16) error {
	if _, err := rollup.ExpandScopes(ctx, pool); err != nil {
		return err
	}
	if _, err := rollup.Drain(ctx, db, shards, nil); err != nil {
		return err
	}
	rebuilds, err := queries.New(pool).ListRequestedRebuilds(ctx, queries.ListRequestedRebuildsParams{RetrySeconds: 1, MaxRuntimes: 2})
	if err != nil {
		return err
	}
	for _, r := range rebuilds {
		if _, err := rollup.Rebuild(ctx, db, r.RuntimeID); err != nil {
			return err
		}
	}
	return nil
}

func TestRandomHistoryIsCountedExactly(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run("history", func(t *testing.T) {
			t.Parallel()
			seed := history.Seed(t)
			pool := testdb.New(t)
			if _, err := pool.Exec(t.Context(), raiseOften); err != nil {
				t.Fatal(err)
			}
			rewrite := maps.Clone(noteEveryStep)
			if i == 0 { // A history has fewer tasks than this statement is for.
				rewrite["ListSource"] = replaceWith(sourceOfMany(t))
			}
			var db rollup.DB = mutantDB{pool, &mutant{rewrite: rewrite}}
			if i == 1 { // As workers do it: several statements in one round trip.
				db = pool
			}
			if err := play(t.Context(), pool, db, history.Config{Seed: seed}); err != nil {
				t.Fatal(err)
			}
			requireNeverBelowZero(t, pool)
			testdb.RequireExact(t, pool)
		})
	}
}

// requireNeverBelowZero fails the test if a drain met a bucket below zero: without a change by hand there is none.
func requireNeverBelowZero(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if n := scalar[int](t, pool, `SELECT count(*) FROM daybook.verification WHERE attempted_at = '-infinity'`); n > 0 {
		t.Errorf("buckets of %d runtimes fell below zero", n)
	}
}

// noteEveryStep makes drains note how far they are after every entry, for a history is shorter than what they wait for.
var noteEveryStep = map[string]func(string) string{
	"AdvanceProgress": func(sql string) string { return strings.ReplaceAll(sql, "$2::bigint", "least($2::bigint, 1)") },
}

// raiseOften makes every write of a bucket or a fact raise its generation, for a history is shorter than what that takes.
const raiseOften = `
	CREATE OR REPLACE FUNCTION daybook.writes_per_generation() RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1::smallint';
	CREATE OR REPLACE FUNCTION daybook.writes_of_fact_generation() RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1::smallint';`

// mutant is a mistake that somebody could make in the drain, made on purpose.
type mutant struct {
	name string
	// schema changes the database first.
	schema string
	// rewrite maps the name of a query to a function on its text.
	rewrite map[string]func(string) string
	// early names the queries that read a snapshot from before the shard was locked.
	early []string
}

var mutants = []mutant{{
	name:  "claim and recompute in one statement",
	early: []string{"ClaimDirtyTasks", "ListUsageFacts", "ListTaskFacts", "ListSource"},
}, {
	name:   "acknowledge by time of the transaction",
	schema: `ALTER TABLE daybook.task_usage_daily_dirty ALTER enqueued_at SET DEFAULT now()`,
	rewrite: map[string]func(string) string{
		"DeleteDirtyEntries": replaceWith(`DELETE FROM daybook.task_usage_daily_dirty WHERE shard = ANY($1::smallint[]) AND enqueued_at <= (
			SELECT max(enqueued_at) FROM daybook.task_usage_daily_dirty WHERE shard = ANY($1::smallint[]) AND id = ANY($2::bigint[]))`),
	},
}, {
	name: "read the zone from the runtime in a drain",
	rewrite: map[string]func(string) string{
		"ListLocalTimes":   hostZone,
		"ListSource":       hostZone,
		"ListRuntimeZones": hostZone,
	},
}, {
	name: "no shard lock",
	rewrite: map[string]func(string) string{
		"TryLockShards": replaceWith(`SELECT s::smallint FROM unnest($1::integer[]) s WHERE $2::integer IS NOT NULL`),
		"LockShards":    replaceWith(`SELECT $1::integer, $2::integer[]`),
	},
}, {
	name: "no runtime lock",
	rewrite: map[string]func(string) string{
		"TryLockRuntimes": replaceWith(`SELECT r.runtime_id, $1::integer IS NOT NULL FROM unnest($2::uuid[]) AS r (runtime_id)`),
		// Otherwise the check of the zone would save it.
		"ListRuntimeZones": hostZone,
		"ListSource":       hostZone,
	},
}, {
	name: "a drain of many runtimes does not look for those that are locked",
	rewrite: map[string]func(string) string{
		"ListLockedRuntimes": replaceWith(`SELECT unnest(($1::uuid[])[:0]) WHERE $2::integer IS NOT NULL`),
		"ListRuntimeZones":   hostZone,
		"ListSource":         hostZone,
	},
}, {
	name: "a rebuild does not wait for drains of many runtimes",
	rewrite: map[string]func(string) string{
		"LockManyRuntimes": replaceWith(`SELECT $1::integer`),
		"ListRuntimeZones": hostZone,
		"ListSource":       hostZone,
	},
}}

// A test of the test above: it must find every classic mistake.
func TestRandomHistoryFindsMistakes(t *testing.T) {
	t.Parallel()
	const rounds = 120
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			seed := history.Seed(t)
			pool := testdb.New(t)
			if _, err := pool.Exec(t.Context(), m.schema); err != nil {
				t.Fatal(err)
			}
			for round := range uint64(rounds) {
				err := play(t.Context(), pool, mutantDB{pool, &m}, history.Config{Seed: seed + round, Transactions: 100})
				if showsMistake(err) {
					t.Logf("found in round %d: %v", round+1, err)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				differences, err := testdb.Differences(t.Context(), pool)
				if err != nil {
					t.Fatal(err)
				}
				if len(differences) > 0 {
					t.Logf("found in round %d: %s", round+1, differences[0])
					return
				}
			}
			t.Fatalf("%d histories did not find it", rounds)
		})
	}
}

// showsMistake tells whether err is one that a mistake in the drain leads to: a bucket or a fact that is there twice, a deadlock, or
// work that is never done.
func showsMistake(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.SchemaName == "daybook" && pgErr.Code == "23505" || pgErr.Code == "40P01"
	}
	return errors.Is(err, errNotEmpty)
}

func replaceWith(sql string) func(string) string { return func(string) string { return sql } }

var rollupZone = regexp.MustCompile(`daybook\.runtime_rollup\b( r\b)?`)

func hostZone(sql string) string {
	return rollupZone.ReplaceAllString(sql,
		`(SELECT x.runtime_id, daybook.effective_zone(h.timezone) AS timezone
			FROM daybook.runtime_rollup x LEFT JOIN public.agent_runtime h ON h.id = x.runtime_id) r`)
}

// mutantDB makes a mutant's mistake in every transaction.
type mutantDB struct {
	pool   *pgxpool.Pool
	mutant *mutant
}

func (db mutantDB) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := db.pool.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	m := &mutantTx{Tx: tx, mutant: db.mutant}
	if len(db.mutant.early) > 0 {
		m.snapshot, err = db.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err == nil {
			// The first statement takes the snapshot. The rest makes it likely that something commits before the lock is taken.
			_, err = m.snapshot.Exec(ctx, `SELECT pg_sleep(0.005)`)
		}
	}
	return m, err
}

// Begin begins a subtransaction.
func (tx *mutantTx) Begin(ctx context.Context) (pgx.Tx, error) {
	nested, err := tx.Tx.Begin(ctx)
	return &mutantTx{Tx: nested, mutant: tx.mutant}, err
}

type mutantTx struct {
	pgx.Tx
	mutant   *mutant
	snapshot pgx.Tx
}

var queryName = regexp.MustCompile(`^-- name: (\w+)`)

func (tx *mutantTx) mutate(sql string) (pgx.Tx, string) {
	match := queryName.FindStringSubmatch(strings.TrimSpace(sql))
	if match == nil {
		return tx.Tx, sql
	}
	if slices.Contains(tx.mutant.early, match[1]) {
		return tx.snapshot, sql
	}
	if rewrite := tx.mutant.rewrite[match[1]]; rewrite != nil {
		sql = rewrite(sql)
	}
	if match[1] == "RequestRebuilds" {
		// Buckets below zero would be mended, and the mistake with them.
		sql = `SELECT $1::uuid[]`
	}
	return tx.Tx, sql
}

func (tx *mutantTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	on, sql := tx.mutate(sql)
	return on.Exec(ctx, sql, args...)
}

func (tx *mutantTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	on, sql := tx.mutate(sql)
	return on.Query(ctx, sql, args...)
}

func (tx *mutantTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	on, sql := tx.mutate(sql)
	return on.QueryRow(ctx, sql, args...)
}

// SendBatch runs the statements of a batch one after the other, so that each of them can be another one.
func (tx *mutantTx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	return &oneByOne{ctx: ctx, tx: tx, queued: batch.QueuedQueries}
}

type oneByOne struct {
	pgx.BatchResults // for what is not called

	ctx    context.Context
	tx     *mutantTx
	queued []*pgx.QueuedQuery
}

func (o *oneByOne) next() *pgx.QueuedQuery {
	q := o.queued[0]
	o.queued = o.queued[1:]
	return q
}

func (o *oneByOne) Exec() (pgconn.CommandTag, error) {
	q := o.next()
	return o.tx.Exec(o.ctx, q.SQL, q.Arguments...)
}

func (o *oneByOne) Query() (pgx.Rows, error) {
	q := o.next()
	return o.tx.Query(o.ctx, q.SQL, q.Arguments...)
}

func (o *oneByOne) QueryRow() pgx.Row {
	q := o.next()
	return o.tx.QueryRow(o.ctx, q.SQL, q.Arguments...)
}

func (*oneByOne) Close() error { return nil }

func (tx *mutantTx) Commit(ctx context.Context) error {
	if tx.snapshot != nil {
		if err := tx.snapshot.Rollback(ctx); err != nil {
			return err
		}
	}
	return tx.Tx.Commit(ctx)
}

func (tx *mutantTx) Rollback(ctx context.Context) error {
	if tx.snapshot != nil {
		tx.snapshot.Rollback(ctx)
	}
	return tx.Tx.Rollback(ctx)
}

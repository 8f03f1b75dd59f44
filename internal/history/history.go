// Package history plays random histories of a host, for tests: several connections insert, overwrite, move and delete the same few
// tasks at the same time, change zones, and delete whole workspaces. What each connection does follows from the seed;
// how they interleave does not.
package history

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"
)

var (
	//go:embed ops.sql
	opsSQL string
	//go:embed populate.sql
	populateSQL string
	//go:embed pending.sql
	pendingSQL string
)

// Config says what history to play.
type Config struct {
	Seed uint64
	// Connections is the number of concurrent writers. Default 4.
	Connections int
	// Transactions is the number that each writer runs. Default 200.
	Transactions int
	// Start is where the days of the history begin; they span two weeks. Default 2025-10-20, so that most zones change
	// their clocks in it.
	Start time.Time
	// KeepOthers leaves out TRUNCATE, which would take the rest of the host with it.
	KeepOthers bool
}

// zones has half-hour and 45-minute zones, two that change their clocks at midnight, one whose clocks change by half an hour,
// the extremes, and one that no Postgres knows.
var zones = []string{
	"UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "America/Havana", "Africa/Cairo", "Australia/Lord_Howe",
	"Pacific/Kiritimati", "Pacific/Pago_Pago", "Local",
}

type operation struct {
	weight float64
	sql    string
}

// world is the ids that a history is about. They are few, so that its writers meet.
type world struct {
	workspaces, projects, runtimes, agents, issues, tasks []pgtype.UUID
}

func newWorld() world {
	ids := func(kind byte, n int) []pgtype.UUID {
		list := make([]pgtype.UUID, n)
		for i := range list {
			list[i] = pgtype.UUID{Bytes: [16]byte{kind, 14: byte(i >> 8), 15: byte(i)}, Valid: true}
		}
		return list
	}
	return world{
		workspaces: ids(1, 2), projects: ids(2, 4), runtimes: ids(3, 8), agents: ids(4, 10), issues: ids(5, 12), tasks: ids(6, 150),
	}
}

// Play writes a history and returns when it is over. It populates the host first if it is empty.
func Play(ctx context.Context, pool *pgxpool.Pool, config Config) error {
	if config.Connections == 0 {
		config.Connections = 4
	}
	if config.Transactions == 0 {
		config.Transactions = 200
	}
	if config.Start.IsZero() {
		config.Start = time.Date(2025, 10, 20, 0, 0, 0, 0, time.UTC)
	}
	operations, err := parseOperations(opsSQL)
	if err != nil {
		return err
	}
	if config.KeepOthers {
		operations = slices.DeleteFunc(operations, func(op operation) bool { return strings.HasPrefix(op.sql, "TRUNCATE") })
	}
	w := newWorld()
	_, err = pool.Exec(ctx, populateSQL, pgx.NamedArgs{
		"workspaces": w.workspaces, "projects": w.projects, "runtimes": w.runtimes, "agents": w.agents, "issues": w.issues, "zones": zones,
	})
	if err != nil && !isExpected(err) {
		return fmt.Errorf("populate: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range config.Connections {
		random := rand.New(rand.NewPCG(config.Seed, uint64(i))) //nolint:gosec // A test wants it reproducible.
		group.Go(func() error {
			for range config.Transactions {
				if err := transact(ctx, pool, random, w, operations, config.Start); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

var errRollBack = errors.New("rolled back on purpose")

// transact runs one transaction of one to four operations. Some are rolled back, and conflicts between writers are part of the
// game.
func transact(ctx context.Context, pool *pgxpool.Pool, random *rand.Rand, w world, operations []operation, start time.Time) error {
	provider := pick(random, []string{"claude", "codex"})
	args := pgx.NamedArgs{
		"workspace": pick(random, w.workspaces), "project": pick(random, w.projects), "agent": pick(random, w.agents),
		"runtime": pick(random, w.runtimes), "runtime2": pick(random, w.runtimes), "issue": pick(random, w.issues),
		"task": pick(random, w.tasks), "task2": pick(random, w.tasks),
		// Some models both providers have, and some one.
		"provider": provider, "model": pick(random, []string{"large", "small", provider + "'s own"}),
		"zone": pick(random, zones), "status": pick(random, []string{"completed", "failed", "cancelled"}),
		"tokens": random.Int64N(1000), "chance": random.IntN(100),
		// Whole quarters of an hour, so that rows of one task share buckets and instants.
		"at": start.Add(time.Duration(random.IntN(14*24*4)) * 15 * time.Minute),
	}
	chosen := make([]operation, 1+random.IntN(4))
	for i := range chosen {
		chosen[i] = choose(random, operations)
	}
	rollBack := random.IntN(20) == 0
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, op := range chosen {
			if _, err := tx.Exec(ctx, op.sql, args); err != nil {
				return fmt.Errorf("%.60s: %w", op.sql, err)
			}
		}
		if rollBack {
			return errRollBack
		}
		return nil
	})
	if isExpected(err) {
		return nil
	}
	return err
}

// isExpected tells whether err is one that a host would meet without Daybook too: a constraint of its own or a deadlock with
// another writer. One of a table of Daybook's would be a trigger that fails a host's write.
func isExpected(err error) bool {
	if errors.Is(err, errRollBack) {
		return true
	}
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.SchemaName != "daybook" && (strings.HasPrefix(pgErr.Code, "23") || strings.HasPrefix(pgErr.Code, "40"))
}

// Pending tells whether anything is left for workers to do.
func Pending(ctx context.Context, pool *pgxpool.Pool) (bool, error) {
	var pending bool
	err := pool.QueryRow(ctx, pendingSQL).Scan(&pending)
	return pending, err
}

func parseOperations(sql string) ([]operation, error) {
	var operations []operation
	for _, block := range strings.Split(sql, "-- op: ")[1:] {
		weight, text, _ := strings.Cut(block, "\n")
		w, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
		if err != nil {
			return nil, fmt.Errorf("weight of an operation: %w", err)
		}
		operations = append(operations, operation{weight: w, sql: strings.TrimSpace(text)})
	}
	return operations, nil
}

func choose(random *rand.Rand, operations []operation) operation {
	total := 0.0
	for _, op := range operations {
		total += op.weight
	}
	at := random.Float64() * total
	for _, op := range operations {
		if at -= op.weight; at < 0 {
			return op
		}
	}
	return operations[0]
}

func pick[T any](random *rand.Rand, list []T) T {
	return list[random.IntN(len(list))]
}

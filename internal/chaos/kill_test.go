//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/rollup"
)

// The environment of a test binary that is to be the worker that dies.
const (
	childMode  = "DAYBOOK_CHAOS_CHILD" // drain, rebuild or backfill
	childStep  = "DAYBOOK_CHAOS_STEP"  // the number of the statement; 0 to live
	childPhase = "DAYBOOK_CHAOS_PHASE" // start: before it is sent; end: after its result
)

// killer kills its own process at a statement.
type killer struct {
	step  int64
	phase string
	count atomic.Int64
}

type killerKey struct{}

func (k *killer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	n := k.count.Add(1)
	k.begin(n, data.SQL)
	return context.WithValue(ctx, killerKey{}, n)
}

func (k *killer) begin(n int64, sql string) {
	fmt.Fprintf(os.Stderr, "%d %s\n", n, statementName(sql))
	if n == k.step && k.phase == "start" {
		die()
	}
}

func (k *killer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if n, _ := ctx.Value(killerKey{}).(int64); n == k.step && k.phase == "end" {
		die()
	}
}

// TraceBatchStart gives the statements of a batch numbers in a row, whatever others send meanwhile. It is called before any of them is sent.
func (k *killer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	queued := data.Batch.QueuedQueries
	before := k.count.Add(int64(len(queued))) - int64(len(queued))
	for i, q := range queued {
		k.begin(before+int64(i)+1, q.SQL)
	}
	return context.WithValue(ctx, killerKey{}, &before)
}

// TraceBatchQuery is called with each result. The server has the statements after it already.
func (k *killer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchQueryData) {
	n, _ := ctx.Value(killerKey{}).(*int64)
	if *n++; *n == k.step && k.phase == "end" {
		die()
	}
}

func (*killer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// statementName is the name of a query, or the first word of another statement.
func statementName(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		return strings.Fields(rest)[0]
	}
	return strings.ToUpper(strings.Fields(sql)[0])
}

// deadlyShard is the one that the child drains: every task of the drain's scenario is in it.
const deadlyShard = 0

var deadlyRuntime = pgtype.UUID{Bytes: [16]byte{3, 15: 1}, Valid: true}

// beChild does the work of a worker until it is killed.
func beChild(mode string) int {
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	step, _ := strconv.ParseInt(os.Getenv(childStep), 10, 64)
	config.ConnConfig.Tracer = &killer{step: step, phase: os.Getenv(childPhase)}
	ctx := context.Background()
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch mode {
	case "drain":
		_, err = rollup.Drain(ctx, pool, []int16{deadlyShard}, nil)
	case "rebuild":
		_, err = rollup.Rebuild(ctx, pool, deadlyRuntime)
	case "backfill":
		err = rollup.Backfill(ctx, pool, rollup.BackfillConfig{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// scenario is what a child that dies works on.
type scenario struct {
	mode string
	// prepared is a database to begin each life with.
	prepared *pgxpool.Pool
	// during begins what goes on while the child dies, and returns what ends it after the first healing. Optional.
	during func(t *testing.T, pool *pgxpool.Pool) (end func())
	// heal does the work again.
	heal func(t *testing.T, pool *pgxpool.Pool)
}

// TestKillDrain kills a drain before and after each of its statements.
func TestKillDrain(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	execute(t, pool, drainBefore)
	drainAll(t, pool)
	execute(t, pool, drainChanges)
	heal := func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		drainAll(t, pool)
		// What is in quarantine is put right by the host. It must be counted then.
		if n := query[int](t, pool, `SELECT count(*) FROM daybook.task_usage_daily_quarantine`); n != 1 {
			t.Fatalf("%d tasks in quarantine, want one of two whose sum is too large", n)
		}
		execute(t, pool, `UPDATE public.task_usage SET input_tokens = 1 WHERE input_tokens > 1000000`)
		drainAll(t, pool)
	}
	killAtEveryStep(t, "kill -9 at every step of a drain", scenario{mode: "drain", prepared: pool, heal: heal})
}

// TestKillLongDrain kills a drain of several transactions, which notes how far it is, while the host has written and not committed.
func TestKillLongDrain(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	execute(t, pool, drainBefore)
	drainAll(t, pool)
	execute(t, pool, `UPDATE public.task_usage SET output_tokens = output_tokens + g.n
		FROM (SELECT n FROM generate_series(1, 3) n) g, public.chaos_task c WHERE c.id = task_id AND c.n < 5`)
	execute(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
		SELECT daybook.shard_of(id), id FROM public.chaos_task, generate_series(1, 180)`)
	during := func(t *testing.T, pool *pgxpool.Pool) func() {
		t.Helper()
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), `UPDATE public.task_usage SET output_tokens = 77
			WHERE task_id IN (SELECT id FROM public.chaos_task WHERE n IN (6, 8))`)
		if err != nil {
			t.Fatal(err)
		}
		// Its entries have numbers lower than these, and come later.
		execute(t, pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id)
			SELECT daybook.shard_of(id), id FROM public.chaos_task, generate_series(1, 180)`)
		return func() {
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			drainAll(t, pool)
		}
	}
	killAtEveryStep(t, "kill -9 at every step of a drain of 5,000 entries, a transaction of the host open",
		scenario{mode: "drain", prepared: pool, during: during, heal: drainAll})
}

// TestKillRebuild kills a rebuild, of a runtime whose zone changed and of one that the host has deleted.
func TestKillRebuild(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"changed": `UPDATE public.agent_runtime SET timezone = 'Asia/Kathmandu' WHERE id = $1`,
		"deleted": `DELETE FROM public.agent_runtime WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.New(t)
			execute(t, pool, drainBefore)
			drainAll(t, pool)
			execute(t, pool, `DELETE FROM public.agent WHERE $1 AND runtime_id = $2`, name == "deleted", deadlyRuntime)
			execute(t, pool, change, deadlyRuntime)
			execute(t, pool, `INSERT INTO daybook.runtime_rebuild (runtime_id) VALUES ($1)`, deadlyRuntime)
			if name == "deleted" { // The drains come first, so that the rebuild has nothing left to take back.
				drainShards(t, pool)
			}
			killAtEveryStep(t, "kill -9 at every step of a rebuild, runtime "+name, scenario{mode: "rebuild", prepared: pool, heal: drainAll})
		})
	}
}

// TestKillBackfill kills a backfill of a host that was never counted, with a runtime to rebuild and a task to leave to drains.
func TestKillBackfill(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	execute(t, pool, drainBefore)
	drainAll(t, pool)
	execute(t, pool, drainChanges)
	execute(t, pool, `UPDATE public.task_usage SET input_tokens = 1 WHERE input_tokens > 1000000`)
	// Nobody has seen the changes, the zone's among them.
	execute(t, pool, `UPDATE public.agent_runtime SET timezone = 'Asia/Kathmandu' WHERE id = $1`, deadlyRuntime)
	execute(t, pool, `TRUNCATE daybook.task_usage_daily_dirty, daybook.dirty_scope, daybook.runtime_rebuild`)
	execute(t, pool, `UPDATE daybook.coverage SET backfill_listed_at = NULL, backfill_finished_at = NULL`)
	heal := func(t *testing.T, pool *pgxpool.Pool) {
		t.Helper()
		if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
			t.Fatal(err)
		}
		if !query[bool](t, pool, `SELECT backfill_finished_at IS NOT NULL FROM daybook.coverage`) {
			t.Fatal("the backfill is not complete")
		}
	}
	killAtEveryStep(t, "kill -9 at every step of a backfill", scenario{mode: "backfill", prepared: pool, heal: heal})
}

// killAtEveryStep lets children die at the first statement, the second, and so on until one lives, before the statement and after.
// With -short, only at some of the statements, evenly spread, and either before it or after.
func killAtEveryStep(t *testing.T, fault string, s scenario) {
	t.Helper()
	template := s.prepared.Config().ConnConfig.Database
	s.prepared.Close()
	admin := connect(t, os.Getenv("DATABASE_URL"))
	steps := s.steps(t, admin, template)
	names := make(map[string]bool)
	kills := 0
	var longest time.Duration
	for _, phase := range []string{"start", "end"} {
		turn := 0
		for step := range steps {
			if testing.Short() {
				turn++
				if (turn%2 == 0) != (phase == "end") {
					continue
				}
			}
			pool := clone(t, admin, template)
			end := func() {}
			if s.during != nil {
				end = s.during(t, pool)
			}
			name, killed := live(t, s.mode, pool, step, phase)
			if !killed {
				end()
				drop(t, admin, pool)
				if testing.Short() { // The lanes of a backfill do not always take the same number of steps.
					continue
				}
				break
			}
			kills++
			names[name] = true
			start := time.Now()
			s.heal(t, pool)
			awaitHealed(t, pool)
			end()
			longest = max(longest, time.Since(start))
			testdb.RequireExact(t, pool)
			if result, err := rollup.Verify(t.Context(), pool, rollup.Verification{}); err != nil || len(result.Differences) > 0 {
				t.Fatalf("killed at %s of %d, %s: verify found %v, %v", phase, step, name, result.Differences, err)
			}
			drop(t, admin, pool)
		}
	}
	if kills == 0 {
		t.Error("nobody was killed: the test shows nothing")
	}
	t.Logf("statements: %v", slices.Sorted(maps.Keys(names)))
	note(t, fault, "kills, each exact afterwards", fmt.Sprintf("%d at %d different statements", kills, len(names)), "all")
	noteTime(t, fault, "longest until all was counted by another", longest, recovery)
}

// shortKills is the number of kills of each scenario with -short.
const shortKills = 8

// steps yields the numbers of the statements to die at: all, without an end; with -short those of some names, the first and the last
// among them.
func (s scenario) steps(t *testing.T, admin *pgxpool.Pool, template string) iter.Seq[int] {
	t.Helper()
	if !testing.Short() {
		return func(yield func(int) bool) {
			for step := 1; yield(step); step++ {
				continue
			}
		}
	}
	pool := clone(t, admin, template)
	defer drop(t, admin, pool)
	if s.during != nil {
		defer s.during(t, pool)()
	}
	seen := make(map[string]bool)
	var first []int
	for i, name := range statementsOf(t, s.mode, pool) {
		if !seen[name] {
			seen[name] = true
			first = append(first, i+1)
		}
	}
	if len(first) <= shortKills {
		return slices.Values(first)
	}
	var some []int
	for i := range shortKills {
		some = append(some, first[i*(len(first)-1)/(shortKills-1)])
	}
	return slices.Values(some)
}

func statementsOf(t *testing.T, mode string, pool *pgxpool.Pool) []string {
	t.Helper()
	said, err := child(t, mode, pool, 0, "").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var names []string
	for l := range strings.Lines(string(said)) {
		_, name, _ := strings.Cut(strings.TrimSpace(l), " ")
		names = append(names, name)
	}
	return names
}

func child(t *testing.T, mode string, pool *pgxpool.Pool, step int, phase string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "DATABASE_URL="+pool.Config().ConnString(), childMode+"="+mode,
		childStep+"="+strconv.Itoa(step), childPhase+"="+phase)
	return cmd
}

// live runs a child that is to die at a step, and returns the name of the statement and whether it did.
func live(t *testing.T, mode string, pool *pgxpool.Pool, step int, phase string) (name string, killed bool) {
	t.Helper()
	cmd := child(t, mode, pool, step, phase)
	said, err := cmd.CombinedOutput()
	if err == nil {
		return "", false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself: %v\n%s", err, said)
	}
	for l := range strings.Lines(string(said)) {
		if n, rest, _ := strings.Cut(strings.TrimSpace(l), " "); n == strconv.Itoa(step) {
			name = rest
		}
	}
	return name, true
}

// clone makes a database like the prepared one.
func clone(t *testing.T, admin *pgxpool.Pool, template string) *pgxpool.Pool {
	t.Helper()
	name := fmt.Sprintf("kill_%d", cloned.Add(1))
	execute(t, admin, "CREATE DATABASE "+name+" TEMPLATE "+pgx.Identifier{template}.Sanitize())
	config := admin.Config()
	config.ConnConfig.Database = name
	u := strings.Replace(config.ConnString(), "/postgres?", "/"+name+"?", 1)
	return connect(t, u)
}

var cloned atomic.Int64

// drop removes what clone made; a database of a test that fails stays for a look.
func drop(t *testing.T, admin, pool *pgxpool.Pool) {
	t.Helper()
	name := query[string](t, pool, `SELECT current_database()`)
	pool.Close()
	execute(t, admin, "DROP DATABASE "+name+" WITH (FORCE)")
}

func awaitHealed(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	await(t, "an empty queue", func() (bool, error) {
		drainShards(t, pool)
		pending, err := history.Pending(t.Context(), pool)
		return !pending, err
	})
}

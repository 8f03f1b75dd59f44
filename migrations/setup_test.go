package migrations_test

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

// ids names rows of the host. In SQL, @name stands for the id.
type ids = pgx.NamedArgs

// setup returns a migrated database with a small host in it.
func setup(t *testing.T) (*pgxpool.Pool, ids) {
	t.Helper()
	pool := testdb.New(t)
	return pool, populate(t, pool)
}

// populate writes two workspaces. Three tasks are of runtime home and agent ann: idle is queued, busy is running and has two
// usage rows, done is completed and has one; busy and done are of issue bug, which has a project. Task odd is of runtime
// spare, where no agent lives, and of agent bob.
func populate(t *testing.T, pool *pgxpool.Pool) ids {
	t.Helper()
	w := ids{}
	add := func(name, sql string) {
		t.Helper()
		w[name] = scalar[pgtype.UUID](t, pool, sql+" RETURNING id", w)
	}
	add("acme", `INSERT INTO public.workspace (slug) VALUES ('acme')`)
	add("other", `INSERT INTO public.workspace (slug) VALUES ('other')`)
	add("red", `INSERT INTO public.project (workspace_id) VALUES (@acme)`)
	add("blue", `INSERT INTO public.project (workspace_id) VALUES (@acme)`)
	for _, name := range []string{"home", "away", "spare"} {
		add(name, `INSERT INTO public.agent_runtime (workspace_id, name, provider) VALUES (@acme, '`+name+`', 'p')`)
	}
	add("ann", `INSERT INTO public.agent (workspace_id, runtime_id) VALUES (@acme, @home)`)
	add("bob", `INSERT INTO public.agent (workspace_id, runtime_id) VALUES (@acme, @away)`)
	add("bug", `INSERT INTO public.issue (workspace_id, project_id) VALUES (@acme, @red)`)
	add("wish", `INSERT INTO public.issue (workspace_id) VALUES (@acme)`)
	add("idle", `INSERT INTO public.agent_task_queue (agent_id, runtime_id) VALUES (@ann, @home)`)
	add("busy", `INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id, status, started_at)
		VALUES (@ann, @home, @bug, 'running', '2025-06-01 22:30Z')`)
	add("done", `INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id, status, started_at, completed_at)
		VALUES (@ann, @home, @bug, 'completed', '2025-06-01 10:00Z', '2025-06-01 10:30Z')`)
	add("odd", `INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at)
		VALUES (@bob, @spare, 'running', '2025-06-01 23:30Z')`)
	exec(t, pool, `INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES
		(@busy, 'p', 'm1', 10, '2025-06-01 22:45Z'), (@busy, 'p', 'm2', 20, '2025-06-01 23:15Z'), (@done, 'p', 'm1', 30, '2025-06-01 10:15Z')`, w)
	return w
}

// db is a pool or a transaction.
type db queries.DBTX

func exec(t *testing.T, on db, sql string, args ...any) {
	t.Helper()
	if _, err := on.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func scalar[T any](t *testing.T, on db, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := on.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func lines(t *testing.T, on db, sql string, args ...any) []string {
	t.Helper()
	rows, err := on.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// queued lists what the triggers have written, sorted: "dirty busy", "scope issue bug", "scope all", "rebuild home".
func queued(t *testing.T, on db, w ids) []string {
	t.Helper()
	list := lines(t, on, `
		SELECT 'dirty ' || task_id FROM daybook.task_usage_daily_dirty
		UNION ALL SELECT concat_ws(' ', 'scope', kind, key) FROM daybook.dirty_scope
		UNION ALL SELECT 'rebuild ' || runtime_id FROM daybook.runtime_rebuild`)
	for i := range list {
		for name, id := range w {
			list[i] = strings.ReplaceAll(list[i], id.(pgtype.UUID).String(), name)
		}
	}
	slices.Sort(list)
	return list
}

func requireQueued(t *testing.T, on db, w ids, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := queued(t, on, w); !slices.Equal(got, want) {
		t.Fatalf("queued %q, want %q", got, want)
	}
}

func clearQueue(t *testing.T, on db) {
	t.Helper()
	exec(t, on, `TRUNCATE daybook.task_usage_daily_dirty, daybook.dirty_scope, daybook.runtime_rebuild`)
}

// settle does all that workers do until nothing is left.
func settle(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	ctx := t.Context()
	for range 10 {
		pending, err := history.Pending(ctx, pool)
		if err != nil {
			t.Fatal(err)
		}
		if !pending {
			return
		}
		if _, err := rollup.ExpandScopes(ctx, pool); err != nil {
			t.Fatal(err)
		}
		for shard := range int16(16) {
			if _, err := rollup.Drain(ctx, pool, []int16{shard}, nil); err != nil {
				t.Fatal(err)
			}
		}
		rebuilds, err := queries.New(pool).ListRequestedRebuilds(ctx, queries.ListRequestedRebuildsParams{RetrySeconds: 1, MaxRuntimes: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rebuilds {
			if _, err := rollup.Rebuild(ctx, pool, r.RuntimeID); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("the queue does not become empty")
}

// requireCounted fails the test unless all that the host holds, and it holds something, is counted.
func requireCounted(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	settle(t, pool)
	testdb.RequireExact(t, pool)
	if scalar[int](t, pool, `SELECT count(*) FROM daybook.task_usage_daily`) == 0 {
		t.Fatal("nothing is counted")
	}
}

// await waits until the query returns true, or until over is closed.
func await(t *testing.T, on db, over <-chan struct{}, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !scalar[bool](t, on, sql, args...) {
		select {
		case <-over:
			return
		case <-ctx.Done():
			t.Fatalf("still not so: %s", sql)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// impatient returns a pool on the database of pool on which a statement that waits for a lock fails.
func impatient(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	return testdb.Open(t, pool, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["lock_timeout"] = "2s" })
}

// newRole makes a role that may log in and has the given attributes, and returns its name and a pool on which it is logged in.
// It is dropped when the test ends; what it owns then goes to the user of pool.
func newRole(t *testing.T, pool *pgxpool.Pool, attributes string) (string, *pgxpool.Pool) {
	t.Helper()
	database := pool.Config().ConnConfig.Database
	role := "daybook_test_" + database[len(database)-8:]
	exec(t, pool, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%[1]s' %s`, role, attributes))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		// A session that ends drops its temporary tables, and is not over when its client is gone.
		for loggedIn := true; loggedIn; {
			err := pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = $1)`, role).Scan(&loggedIn)
			if err != nil {
				t.Errorf("wait for the end of sessions: %v", err)
				return
			}
		}
		for _, sql := range []string{`REASSIGN OWNED BY %s TO CURRENT_USER`, `DROP OWNED BY %s`, `DROP ROLE %s`} {
			if _, err := pool.Exec(ctx, fmt.Sprintf(sql, role)); err != nil {
				t.Errorf("drop role: %v", err)
			}
		}
	})
	return role, testdb.Open(t, pool, func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = role, role
	})
}

//go:embed testdata/fingerprint.sql
var fingerprintSQL string

// requireSameHost fails the test if the database is not what it was when it had the given fingerprint.
func requireSameHost(t *testing.T, pool *pgxpool.Pool, before []string) {
	t.Helper()
	after := lines(t, pool, fingerprintSQL)
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("left behind: %s", line)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d lines before, %d after", len(before), len(after))
	}
}

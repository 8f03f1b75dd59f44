package demo_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/testdb"
)

// until is a moment at which most zones of the demo have different dates or clocks.
var until = time.Date(2026, time.November, 3, 4, 30, 0, 0, time.UTC)

func TestCreateHost(t *testing.T) {
	t.Parallel()

	t.Run("in an empty schema, twice", func(t *testing.T) {
		t.Parallel()
		db := emptyDB(t)
		for range 2 {
			if err := demo.CreateHost(t.Context(), db); err != nil {
				t.Fatal(err)
			}
		}
		if filled, err := demo.Filled(t.Context(), db); err != nil || filled {
			t.Errorf("Filled = %v, %v; want an empty host", filled, err)
		}
	})

	for name, setup := range map[string]string{
		"a foreign table": "CREATE TABLE public.invoice ()",
		"a foreign view":  "CREATE VIEW public.invoice AS SELECT 1 AS one",
		// A real host looks the same, but has no mark.
		"a host that is no demo": demo.HostSQL,
	} {
		t.Run("not beside "+name, func(t *testing.T) {
			t.Parallel()
			db := emptyDB(t)
			exec(t, db, setup)
			if err := demo.CreateHost(t.Context(), db); !errors.Is(err, demo.ErrForeign) {
				t.Errorf("CreateHost = %v, want ErrForeign", err)
			}
		})
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	db := testdb.NewHost(t)
	const shape = `SELECT string_agg(line, E'\n' ORDER BY line) FROM (
		SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) AS line FROM pg_constraint
		WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public') x`
	keys := query(t, db, shape)
	if err := demo.Fill(t.Context(), db, demo.Size{Tasks: 4000, Until: until}); err != nil {
		t.Fatal(err)
	}
	if got := query(t, db, shape); got != keys {
		t.Errorf("Fill leaves these keys and indexes:\n%s\nwant:\n%s", got, keys)
	}

	for name, check := range map[string]struct {
		sql  string
		want bool
	}{
		"4000 tasks":                     {"SELECT count(*) = 4000 FROM agent_task_queue", true},
		"1.3 to 1.7 usage rows per task": {"SELECT count(*) BETWEEN 5200 AND 6800 FROM task_usage", true},
		"1 to 3 usage rows for each started task": {`SELECT bool_and(n BETWEEN 1 AND 3) FROM (
			SELECT count(u.id) AS n FROM agent_task_queue t LEFT JOIN task_usage u ON u.task_id = t.id
			WHERE t.started_at IS NOT NULL GROUP BY t.id) x`, true},
		"usage without a start": {`SELECT bool_or(t.started_at IS NULL) FROM task_usage u
			JOIN agent_task_queue t ON t.id = u.task_id`, false},
		"8 zones": {`SELECT count(DISTINCT timezone) = 8
			AND array_agg(timezone) @> '{Asia/Kolkata,Asia/Kathmandu,America/Havana,Africa/Cairo}' FROM agent_runtime`, true},
		"usage on every runtime": {`SELECT count(DISTINCT runtime_id) = 12 FROM agent_task_queue`, true},
		"3 providers, 6 models":  {`SELECT count(DISTINCT provider) = 3 AND count(DISTINCT model) = 6 FROM task_usage`, true},
		"all statuses":           {`SELECT count(DISTINCT status) = 6 FROM agent_task_queue`, true},
		"times in order": {`SELECT bool_and(created_at < coalesce(started_at, 'infinity')
			AND coalesce(started_at, created_at) < coalesce(completed_at, 'infinity')) FROM agent_task_queue`, true},
		"usage in the last 121 days": {`SELECT max(created_at) <= '2026-11-03 04:30Z'
			AND min(created_at) > '2026-07-05 04:30Z' FROM task_usage`, true},
		"usage on each of 119 days": {`SELECT count(DISTINCT created_at::date) >= 119 FROM task_usage`, true},
		"usage within its task": {`SELECT bool_and(u.created_at BETWEEN t.started_at AND coalesce(t.completed_at, 'infinity'))
			FROM task_usage u JOIN agent_task_queue t ON t.id = u.task_id`, true},
		"tasks that cross a midnight of their runtime": {`SELECT count(*) > 0 FROM (
			SELECT FROM task_usage u JOIN agent_task_queue t ON t.id = u.task_id JOIN agent_runtime r ON r.id = t.runtime_id
			GROUP BY t.id HAVING count(DISTINCT (u.created_at AT TIME ZONE r.timezone)::date) > 1) x`, true},
		"some tasks have no issue":  {"SELECT count(*) BETWEEN 400 AND 800 FROM agent_task_queue WHERE issue_id IS NULL", true},
		"some issues in no project": {"SELECT count(*) BETWEEN 20 AND 60 FROM issue WHERE project_id IS NULL", true},
		"all of a task is of one workspace": {`SELECT bool_and(r.workspace_id = a.workspace_id
			AND coalesce(i.workspace_id, a.workspace_id) = a.workspace_id
			AND coalesce(p.workspace_id, a.workspace_id) = a.workspace_id)
			FROM agent_task_queue t JOIN agent a ON a.id = t.agent_id JOIN agent_runtime r ON r.id IN (a.runtime_id, t.runtime_id)
			LEFT JOIN issue i ON i.id = t.issue_id LEFT JOIN project p ON p.id = i.project_id`, true},
	} {
		var got bool
		if err := db.QueryRow(t.Context(), check.sql).Scan(&got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got != check.want {
			t.Errorf("%s: %v, want %v", name, got, check.want)
		}
	}

	host, err := demo.Describe(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if host.Owner == "" || host.Member == "" || host.Outsider == "" || len(host.Runtimes) != 12 {
		t.Errorf("Describe = %+v, want three users and 12 runtimes", host)
	}
	roles := query(t, db, `SELECT string_agg(format('%s %s %s', u.email, m.role, w.slug), ', ' ORDER BY u.email, w.slug)
		FROM member m JOIN workspace w ON w.id = m.workspace_id JOIN "user" u ON u.id = m.user_id`)
	if want := "member@demo.test member acme, owner@demo.test owner acme, owner@demo.test owner globex"; roles != want {
		t.Errorf("members: %s, want %s", roles, want)
	}

	if err := demo.Fill(t.Context(), db, demo.Size{Tasks: 10}); !errors.Is(err, demo.ErrFilled) {
		t.Errorf("second Fill = %v, want ErrFilled", err)
	}
}

func TestFillIsReproducible(t *testing.T) {
	t.Parallel()
	sum := func(seed int64) string {
		db := testdb.NewHost(t)
		if err := demo.Fill(t.Context(), db, demo.Size{Tasks: 500, Seed: seed, Until: until}); err != nil {
			t.Fatal(err)
		}
		var sums []string
		for _, table := range []string{
			"workspace", `"user"`, "member", "project", "agent_runtime", "agent", "issue", "agent_task_queue", "task_usage",
		} {
			sums = append(sums, query(t, db, "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM "+table+" t"))
		}
		return strings.Join(sums, " ")
	}
	first, again, other := sum(1), sum(1), sum(2)
	if first != again {
		t.Error("the same seed gives other rows")
	}
	if first == other {
		t.Error("another seed gives the same rows")
	}
}

func TestFillSizes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size     demo.Size
		hotTasks [2]int // at least and at most, on the first runtime
	}{
		"one of all":     {demo.Size{Workspaces: 1, Runtimes: 1, Agents: 1, Projects: 1, Issues: 1, Tasks: 1, Days: 1}, [2]int{1, 1}},
		"only hot":       {demo.Size{Workspaces: 1, Runtimes: 1, Tasks: 100, HotRuntime: 0.5}, [2]int{100, 100}},
		"half is hot":    {demo.Size{Tasks: 2000, HotRuntime: 0.5}, [2]int{900, 1150}},
		"many, unevenly": {demo.Size{Workspaces: 7, Runtimes: 30, Agents: 101, Projects: 9, Issues: 50, Tasks: 2000, Days: 3}, [2]int{50, 500}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.NewHost(t)
			if err := demo.Fill(t.Context(), db, c.size); err != nil {
				t.Fatal(err)
			}
			var tasks, hot int
			err := db.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE r.name = 'central-1')
				FROM agent_task_queue t JOIN agent_runtime r ON r.id = t.runtime_id OR t.runtime_id IS NULL AND r.name = 'new-york-1'`).
				Scan(&tasks, &hot)
			if err != nil {
				t.Fatal(err)
			}
			if hot < c.hotTasks[0] || hot > c.hotTasks[1] {
				t.Errorf("%d of %d tasks are on the first runtime, want %v", hot, tasks, c.hotTasks)
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		db := testdb.NewHost(t)
		for _, size := range []demo.Size{
			{Tasks: -1}, {Workspaces: 3, Runtimes: 2}, {Runtimes: 5, Agents: 4}, {Projects: 1}, {HotRuntime: 1.5},
		} {
			if err := demo.Fill(t.Context(), db, size); err == nil {
				t.Errorf("Fill accepts %+v", size)
			}
		}
	})

	t.Run("not beside foreign tables", func(t *testing.T) {
		t.Parallel()
		db := emptyDB(t)
		exec(t, db, demo.HostSQL)
		exec(t, db, "CREATE TABLE public.invoice ()")
		if err := demo.Fill(t.Context(), db, demo.Size{Tasks: 10}); !errors.Is(err, demo.ErrForeign) {
			t.Errorf("Fill = %v, want ErrForeign", err)
		}
	})
}

func TestWriteLive(t *testing.T) {
	t.Parallel()
	db := testdb.NewHost(t)
	if err := demo.Fill(t.Context(), db, demo.Size{Tasks: 200}); err != nil {
		t.Fatal(err)
	}
	before := query(t, db, "SELECT now()::text")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- demo.WriteLive(ctx, testdb.Open(t, db), demo.Live{Rate: 1000}) }()

	since := "'" + before + "'"
	await(t, db, "SELECT count(*) > 20 FROM agent_task_queue WHERE created_at > "+since)
	await(t, db, "SELECT count(*) > 5 FROM agent_task_queue WHERE completed_at > "+since)
	await(t, db, "SELECT count(*) > 20 FROM task_usage WHERE updated_at > "+since)
	await(t, db, `SELECT count(*) > 0 FROM agent_task_queue t JOIN agent a ON a.id = t.agent_id
		WHERE t.created_at > `+since+` AND t.runtime_id <> a.runtime_id`)

	// An outage: every connection but ours breaks.
	exec(t, db, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	await(t, db, "SELECT count(*) > 20 FROM agent_task_queue WHERE created_at > '"+query(t, db, "SELECT now()::text")+"'")

	// Deleted by the host while the writer has them open.
	exec(t, db, "DELETE FROM agent_task_queue WHERE status IN ('queued', 'running')")
	await(t, db, "SELECT count(*) > 5 FROM task_usage WHERE created_at > '"+query(t, db, "SELECT now()::text")+"'")

	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("WriteLive = %v, want nil when its context ends", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("WriteLive goes on after its context has ended")
	}
}

func TestWriteLiveGivesUp(t *testing.T) {
	t.Parallel()
	for name, setup := range map[string]string{
		"no tables": "DROP SCHEMA public CASCADE",
		"no agents": "DELETE FROM agent",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.NewHost(t)
			exec(t, db, setup)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := demo.WriteLive(ctx, db, demo.Live{Rate: 1000}); err == nil {
				t.Error("WriteLive returns no error")
			}
		})
	}
}

func emptyDB(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := testdb.NewHost(t)
	exec(t, db, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	return db
}

func exec(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, db *pgxpool.Pool, sql string) string {
	t.Helper()
	var s string
	for attempt := 0; ; attempt++ {
		err := db.QueryRow(t.Context(), sql).Scan(&s)
		if err == nil {
			return s
		}
		if attempt == 5 {
			t.Fatal(err)
		}
	}
}

// await waits for the query to return true. It bears broken connections.
func await(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		var ok bool
		err := db.QueryRow(ctx, sql).Scan(&ok)
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still not so: %s (%v)", sql, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/state"
	"daybook/internal/testdb"
	"daybook/migrations"
	"daybook/queries"
)

// login makes a role that can log in and is a member of groups, and returns a pool of it. It is dropped after the test.
func login(t *testing.T, admin *pgxpool.Pool, groups ...string) *pgxpool.Pool {
	t.Helper()
	name := "daybook_test_" + strings.ToLower(rand.Text())
	if _, err := admin.Exec(t.Context(), fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'login' IN ROLE %s`, name, strings.Join(groups, ", "))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), `DROP ROLE `+name); err != nil {
			t.Error(err)
		}
	})
	return loggedIn(t, admin, name)
}

// loggedIn returns a pool of a role that login or a test has made.
func loggedIn(t *testing.T, admin *pgxpool.Pool, name string) *pgxpool.Pool {
	t.Helper()
	c := admin.Config().ConnConfig
	pool, err := pgxpool.New(t.Context(), fmt.Sprintf("postgres://%s:login@%s:%d/%s", name, c.Host, c.Port, c.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// requireAllowed and requireDenied run each statement alone.
func requireAllowed(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func requireDenied(t *testing.T, pool *pgxpool.Pool, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := pool.Exec(t.Context(), sql)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); !ok || pgErr.Code != "42501" {
			t.Errorf("%s: %v, want a denial", sql, err)
		}
	}
}

// What a role may not grant, Postgres only warns of. Nobody is told that all is well, but what to have run.
func TestGrantsThatAreLeftAreSaid(t *testing.T) {
	t.Parallel()
	admin := testdb.NewHost(t)
	name := "daybook_test_" + strings.ToLower(rand.Text())
	requireAllowed(t, admin, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'login' CREATEROLE`, name))
	t.Cleanup(func() {
		for _, sql := range []string{`REASSIGN OWNED BY `, `DROP OWNED BY `, `DROP ROLE `} {
			sql += name
			if strings.HasPrefix(sql, "REASSIGN") {
				sql += ` TO CURRENT_USER`
			}
			if _, err := admin.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	// It owns the host's tables, but not the schema that they are in, nor one of the tables.
	requireAllowed(t, admin, `DO $$
		DECLARE t regclass;
		BEGIN
			FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'workspace' LOOP
				EXECUTE format('ALTER TABLE %s OWNER TO `+name+`', t);
			END LOOP;
			EXECUTE format('GRANT CREATE ON DATABASE %I TO `+name+`', current_database());
		END $$`,
		`REVOKE ALL ON SCHEMA public FROM PUBLIC`, `GRANT USAGE ON SCHEMA public TO `+name, `GRANT SELECT ON public.workspace TO `+name)
	// From Postgres 16 on, the right to create roles is none to those that others have made, as other tests do.
	if query[int](t, admin, `SELECT current_setting('server_version_num')::integer`) >= 160000 {
		if _, err := migrations.CreateRoles(t.Context(), testdb.New(t)); err != nil {
			t.Fatal(err)
		}
		requireAllowed(t, admin, `GRANT daybook_trigger, daybook_owner TO `+name+` WITH ADMIN OPTION`)
	}
	maker := loggedIn(t, admin, name)
	if code, _, stderr := command(t, maker, "migrate", "up"); code != 0 {
		t.Fatal(stderr)
	}
	// Before there are roles, the function for it belongs to a role that may not see the transactions of others.
	held, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), `INSERT INTO public.workspace (slug) VALUES ('held')`); err != nil {
		t.Fatal(err)
	}
	_, status, _ := command(t, maker, "status")
	if want := "GRANT pg_read_all_stats TO " + name + ";"; !strings.Contains(status, "WRONG: It is not known whether") || !strings.Contains(status, want) {
		t.Errorf("without %q:\n%s", want, status)
	}
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, maker, "migrate", "up", "--roles")
	if code != 1 || strings.Contains(stdout, "have what they need") {
		t.Fatalf("code %d: %s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		`warning: no privileges were granted for "public"`, `warning: no privileges were granted for column "slug" of relation "workspace"`,
		"\nGRANT USAGE ON SCHEMA public TO daybook_worker;\n", "\nGRANT USAGE ON SCHEMA public TO daybook_metrics;\n", "\nGRANT CREATE ON DATABASE ",
		"\nGRANT SELECT (id) ON public.workspace TO daybook_worker;\n", "\nGRANT SELECT (id, slug) ON public.workspace TO daybook_api;\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("without %q:\n%s", want, stderr)
		}
	}
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "GRANT ") {
			requireAllowed(t, admin, line)
		}
	}
	if code, stdout, stderr := command(t, maker, "migrate", "up", "--roles"); code != 0 || !strings.Contains(stdout, "have what they need") {
		t.Errorf("after the grants: code %d: %s%s", code, stdout, stderr)
	}
	worker := login(t, admin, "daybook_worker")
	requireAllowed(t, worker, `SELECT id FROM public.workspace`)
	requireDenied(t, worker, `SELECT slug FROM public.workspace`)
	if code, _, stderr := command(t, worker, "backfill", "--if-needed"); code != 0 {
		t.Error(stderr)
	}
}

// One test for all roles: they belong to the cluster.
func TestRolesMayDoWhatTheyNeedAndNoMore(t *testing.T) {
	t.Parallel()
	admin := testdb.NewHost(t)
	if err := demo.Fill(t.Context(), admin, demo.Size{Tasks: 300, Days: 5}); err != nil {
		t.Fatal(err)
	}
	// Nothing is left to PUBLIC.
	requireAllowed(t, admin, `REVOKE ALL ON SCHEMA public FROM PUBLIC`)
	for range 2 { // It may be run again.
		if code, stdout, stderr := command(t, admin, "migrate", "up", "--roles"); code != 0 || !strings.Contains(stdout, "have what they need") {
			t.Fatalf("code %d: %s%s", code, stdout, stderr)
		}
	}
	requireAllowed(t, admin, `REVOKE ALL ON ALL FUNCTIONS IN SCHEMA daybook FROM PUBLIC`)
	if code, stdout, _ := command(t, admin, "migrate", "roles"); code != 0 || stdout != migrations.RolesSQL() {
		t.Errorf("code %d: %s", code, stdout)
	}

	owner := login(t, admin, "daybook_owner")
	for _, args := range [][]string{{"migrate", "up"}, {"migrate", "status"}} {
		if code, stdout, stderr := command(t, owner, args...); code != 0 {
			t.Errorf("owner: %q: code %d: %s%s", args, code, stdout, stderr)
		}
	}
	requireAllowed(t, owner, `ALTER TABLE daybook.ledger_task ADD COLUMN tried integer`, `ALTER TABLE daybook.ledger_task DROP COLUMN tried`)
	requireDenied(t, owner, `DELETE FROM public.task_usage`, `DROP TABLE public.task_usage`)

	worker := login(t, admin, "daybook_worker")
	for _, args := range [][]string{
		{"backfill"}, {"status"}, {"verify"}, {"rebuild", "--all"}, {"requeue", "--all"}, {"prune", "--before", "2020-01-01"}, {"migrate", "status"},
	} {
		if code, stdout, stderr := command(t, worker, args...); code != 0 {
			t.Errorf("worker: %q: code %d: %s%s", args, code, stdout, stderr)
		}
	}
	// It sees the oldest transaction of others, by the owner's rights and not by its own.
	held, err := admin.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), `SET LOCAL application_name = 'forgotten'`); err != nil {
		t.Fatal(err)
	}
	if _, err := held.Exec(t.Context(), `INSERT INTO public.workspace (slug) VALUES ('held')`); err != nil {
		t.Fatal(err)
	}
	await(t, "the oldest transaction", func() (bool, error) { // Those of other tests do not last for long.
		_, stdout, stderr := command(t, worker, "status")
		if strings.Contains(stdout, "longest transaction        not known") {
			return false, errors.New(stdout + stderr)
		}
		return strings.Contains(stdout, "(forgotten)"), nil
	})
	if err := held.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := startWorker(t, worker)
	requireAllowed(t, admin, `UPDATE public.task_usage SET input_tokens = input_tokens + 1`, `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`,
		`UPDATE public.issue SET project_id = NULL`, `TRUNCATE public.task_usage`)
	awaitEmptyQueue(t, admin)
	p.signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	testdb.RequireExact(t, admin)
	if code, stdout, stderr := command(t, worker, "verify", "--repair"); code != 0 {
		t.Errorf("worker: code %d: %s%s", code, stdout, stderr)
	}
	requireDenied(t, worker,
		`UPDATE public.task_usage SET input_tokens = 0`, `DELETE FROM public.agent_task_queue`, `SELECT FROM public.member`,
		`DROP TABLE daybook.ledger_task`, `CREATE TABLE daybook.mine ()`, `CREATE TABLE public.mine ()`, `SELECT daybook.detach()`,
		`SELECT slug FROM public.workspace`, `DELETE FROM daybook.schema_migration`, `ALTER TABLE public.task_usage DISABLE TRIGGER ALL`, `SET ROLE daybook_owner`, `SET ROLE daybook_trigger`)

	api := login(t, admin, "daybook_api")
	requireAllowed(t, api, `SELECT FROM daybook.task_usage_daily`, `SELECT FROM public.agent_runtime`, `SELECT workspace_id FROM public.member`)
	if _, err := queries.New(api).GetLag(t.Context()); err != nil {
		t.Error(err)
	}
	if err := migrations.CheckCurrent(t.Context(), api); err != nil {
		t.Error(err)
	}
	requireDenied(t, api, `SELECT FROM public.task_usage`, `SELECT FROM public.agent_task_queue`, `SELECT FROM public."user"`,
		`UPDATE daybook.task_usage_daily SET input_tokens = 0`, `DELETE FROM daybook.task_usage_daily_dirty`,
		`UPDATE public.agent_runtime SET timezone = 'UTC'`, `SET ROLE daybook_worker`)

	write := login(t, admin, "daybook_api_write")
	requireAllowed(t, write, `UPDATE public.agent_runtime SET timezone = 'UTC'`)
	requireDenied(t, write, `UPDATE public.agent_runtime SET owner_id = NULL`, `SELECT FROM public.task_usage`, `DELETE FROM public.task_usage`,
		`SELECT * FROM public.agent`, `SELECT * FROM public.member`, `SELECT FROM daybook.task_usage_daily`, `UPDATE daybook.runtime_rollup SET timezone = 'UTC'`)

	metrics := login(t, admin, "daybook_metrics")
	now, err := state.Read(t.Context(), queries.New(metrics), 10)
	if err != nil {
		t.Fatal(err)
	}
	if !now.Cleanup.Visible {
		t.Error("it may not see how old others' transactions are")
	}
	for _, role := range []*pgxpool.Pool{worker, api, write, metrics} {
		if query[bool](t, role, `SELECT pg_has_role('pg_read_all_stats', 'MEMBER')`) {
			t.Error("it may see what others do")
		}
	}
	requireDenied(t, api, `SELECT daybook.cleanup_held()`)
	requireDenied(t, write, `SELECT daybook.cleanup_held()`)
	requireDenied(t, metrics, `SELECT FROM public.task_usage`, `SELECT FROM public.member`, `SELECT FROM daybook.task_usage_fact`,
		`SELECT FROM daybook.task_usage_daily`, `DELETE FROM daybook.worker_heartbeat`)

	for _, pool := range []*pgxpool.Pool{owner, worker, api, write, metrics} {
		pool.Close()
	}
	// Another database of the cluster keeps a role from being dropped.
	requireAllowed(t, testdb.NewHost(t), `GRANT USAGE ON SCHEMA public TO daybook_worker`)
	if err := migrations.Down(t.Context(), admin); err != nil {
		t.Fatal(err)
	}
	var left int
	err = admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname LIKE 'daybook\_%' AND r.rolname NOT LIKE 'daybook\_test%'`).Scan(&left)
	if err != nil || left > 0 {
		t.Errorf("%d grants are left on the host's tables, %v", left, err)
	}
}

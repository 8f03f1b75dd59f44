package migrations_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
	"daybook/migrations"
)

// requireDenied fails the test unless on may not run sql.
func requireDenied(t *testing.T, on *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := on.Exec(t.Context(), sql)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
		t.Errorf("%s: error %v, want permission denied", sql, err)
	}
}

// newHostRole makes a role that may write the host's tables, as a host application's own.
func newHostRole(t *testing.T, pool *pgxpool.Pool) (string, *pgxpool.Pool) {
	t.Helper()
	role, app := newRole(t, pool, "")
	exec(t, pool, `GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO `+role)
	return role, app
}

func TestHostRoleNeedsNoGrant(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	_, app := newHostRole(t, pool)
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{`INSERT INTO public.task_usage (task_id, provider, model) VALUES (@idle, 'p', 'm')`, []string{"dirty idle"}},
		{`UPDATE public.task_usage SET input_tokens = 5 WHERE task_id = @done`, []string{"dirty done"}},
		{`DELETE FROM public.task_usage WHERE task_id = @done`, []string{"dirty done"}},
		{`UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @odd`, []string{"dirty odd"}},
		{`UPDATE public.issue SET project_id = @blue WHERE id = @bug`, []string{"scope issue bug"}},
		{`UPDATE public.agent SET workspace_id = @other WHERE id = @ann`, []string{"scope agent ann"}},
		{`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`, []string{"rebuild home"}},
		{`DELETE FROM public.agent_task_queue WHERE id = @odd`, []string{"dirty odd"}},
		{`DELETE FROM public.agent_runtime WHERE id = @spare`, []string{"rebuild spare"}},
		{`TRUNCATE public.task_usage`, []string{"scope all"}},
	} {
		clearQueue(t, pool)
		exec(t, app, test.sql, w)
		requireQueued(t, pool, w, test.want...)
	}
	for _, sql := range []string{
		`SELECT FROM daybook.task_usage_daily_dirty`,
		`INSERT INTO daybook.dirty_scope (kind) VALUES ('all')`,
		`SELECT FROM daybook.task_usage_daily`,
		`SELECT daybook.detach()`,
		`SELECT daybook.shard_count()`,
		`CREATE TABLE daybook.mine ()`,
		`SET ROLE daybook_trigger`,
	} {
		requireDenied(t, app, sql)
	}
}

// Even a role that may look into the schema can neither call a trigger function of host tables nor put it on a table of its own.
func TestTriggerFunctionsAreSealed(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	functions := lines(t, pool, `SELECT proname::text FROM pg_proc
		WHERE pronamespace = 'daybook'::regnamespace AND prorettype = 'trigger'::regtype AND proname NOT LIKE 'single_%' AND proname NOT IN ('insert_by_name', 'refuse_old_rebuild') ORDER BY 1`)
	sealed := lines(t, pool, `
		SELECT p.proname::text FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner
		WHERE p.pronamespace = 'daybook'::regnamespace AND p.prorettype = 'trigger'::regtype
		  AND p.prosecdef AND p.proconfig = '{"search_path=pg_catalog, pg_temp"}'
		  AND r.rolname = 'daybook_trigger' AND NOT r.rolcanlogin AND NOT r.rolsuper
		  AND NOT has_function_privilege('public', p.oid, 'EXECUTE')
		ORDER BY 1`)
	if len(functions) == 0 || !slices.Equal(functions, sealed) {
		t.Errorf("of %q only %q are sealed", functions, sealed)
	}
	definers := lines(t, pool, `SELECT p.proname::text FROM pg_proc p
		WHERE p.pronamespace = 'daybook'::regnamespace AND p.prosecdef AND p.prorettype <> 'trigger'::regtype
		  AND p.pronargs = 0 AND p.proconfig = '{"search_path=pg_catalog, pg_temp"}' AND NOT has_function_privilege('public', p.oid, 'EXECUTE')`)
	if !slices.Equal(definers, []string{"cleanup_held"}) {
		t.Errorf("%q run with the rights of their owner, sealed", definers)
	}
	if n := scalar[int](t, pool, `SELECT count(*) FROM pg_proc WHERE pronamespace = 'daybook'::regnamespace AND prosecdef`); n != len(functions)+1 {
		t.Errorf("%d functions run with the rights of their owner", n)
	}
	want := []string{"dirty_scope INSERT", "runtime_rebuild INSERT", "task_usage_daily_dirty INSERT"}
	got := lines(t, pool, `
		SELECT c.relname || ' ' || a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
		WHERE a.grantee = 'daybook_trigger'::regrole ORDER BY 1`)
	if !slices.Equal(got, want) {
		t.Errorf("daybook_trigger has %q, want %q", got, want)
	}
	if scalar[bool](t, pool, `SELECT has_schema_privilege('daybook_trigger', 'daybook', 'CREATE')`) {
		t.Error("daybook_trigger may create in the schema")
	}

	role, app := newHostRole(t, pool)
	exec(t, pool, `GRANT USAGE ON SCHEMA daybook TO `+role)
	exec(t, pool, `CREATE SCHEMA own AUTHORIZATION `+role)
	exec(t, app, `CREATE TABLE own.fake (id uuid)`)
	requireDenied(t, app, `CREATE TRIGGER fake AFTER INSERT ON own.fake FOR EACH ROW EXECUTE FUNCTION daybook.mark_all_changed()`)
	requireDenied(t, app, `SELECT daybook.detach()`)
}

// Whoever writes may have any search path, and temporary tables and functions of any name.
func TestHostileSessionDivertsNothing(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	clearQueue(t, pool)
	role, _ := newHostRole(t, pool)
	exec(t, pool, `CREATE SCHEMA evil AUTHORIZATION `+role)
	app := testdb.Open(t, pool, func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = role, role
		c.MaxConns = 1 // All in one session.
	})
	exec(t, app, `
		CREATE FUNCTION evil.uuid_hash(uuid) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'diverted'; END $$;
		CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'diverted'; END $$;
		CREATE FUNCTION evil.same(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'diverted'; END $$;
		CREATE OPERATOR evil.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = evil.same);
		CREATE TEMP TABLE task_usage_daily_dirty (shard smallint, id bigint, task_id uuid, enqueued_at timestamptz);
		CREATE TEMP TABLE dirty_scope (kind text, key uuid);
		CREATE TEMP TABLE runtime_rebuild (runtime_id uuid);
		CREATE TEMP TABLE new_rows (task_id uuid, id uuid);
		CREATE TEMP TABLE old_rows (task_id uuid, id uuid);
		INSERT INTO new_rows VALUES (gen_random_uuid(), gen_random_uuid());
		INSERT INTO old_rows VALUES (gen_random_uuid(), gen_random_uuid());
		SET search_path = evil, pg_temp, pg_catalog`)
	if got := scalar[string](t, app, `SHOW search_path`); !strings.HasPrefix(got, "evil") {
		t.Fatalf("search_path is %q", got)
	}
	literal := func(name string) string {
		return fmt.Sprintf("'%s'", scalar[string](t, pool, `SELECT @`+name+`::uuid::text`, w))
	}
	for _, sql := range []string{
		`INSERT INTO public.task_usage (task_id, provider, model) VALUES (` + literal("idle") + `, 'p', 'm')`,
		`UPDATE public.task_usage SET input_tokens = 5 WHERE model = 'm2'`,
		`DELETE FROM public.task_usage WHERE input_tokens = 30`,
		`UPDATE public.agent_task_queue SET runtime_id = NULL WHERE started_at = '2025-06-01 23:30Z'`,
		`UPDATE public.issue SET project_id = NULL WHERE project_id IS NOT NULL`,
		`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE name = 'home'`,
	} {
		exec(t, app, sql)
	}
	requireQueued(t, pool, w, "dirty idle", "dirty busy", "dirty done", "dirty odd", "scope issue bug", "rebuild home")
	for _, table := range []string{"task_usage_daily_dirty", "dirty_scope", "runtime_rebuild"} {
		if n := scalar[int](t, app, `SELECT count(*) FROM pg_temp.`+table); n != 0 {
			t.Errorf("%d rows went to a temporary %s", n, table)
		}
	}
}

// newOwner makes a role that owns the database, its schema public and all tables of the host, and is no superuser.
func newOwner(t *testing.T, pool *pgxpool.Pool, attributes string) (string, *pgxpool.Pool) {
	t.Helper()
	role, owner := newRole(t, pool, attributes)
	for _, sql := range lines(t, pool, `
		SELECT format('ALTER DATABASE %I OWNER TO %I', current_database(), $1::text)
		UNION ALL SELECT format('ALTER SCHEMA public OWNER TO %I', $1)
		UNION ALL SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, $1) FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'`, role) {
		exec(t, pool, sql)
	}
	return role, owner
}

// requireOwnerCanDoAll goes through all of a schema's life as a role that is no superuser.
func requireOwnerCanDoAll(t *testing.T, pool, owner *pgxpool.Pool, w ids) {
	t.Helper()
	clearQueue(t, pool)
	exec(t, owner, `UPDATE public.task_usage SET input_tokens = 5 WHERE task_id = @done`, w)
	requireQueued(t, pool, w, "dirty done")
	detach(t, owner)
	exec(t, owner, `UPDATE public.task_usage SET input_tokens = 6 WHERE task_id = @done`, w)
	attach(t, owner)
	backfill(t, owner)
	requireCounted(t, owner)
	// A transaction of another role: what it does is hidden from the owner, its pid is not.
	tx, pid := hold(t, pool, `UPDATE public.issue SET title = 'held' WHERE id = @bug`, w)
	requireBusy(t, pid, func(ctx context.Context) error { return migrations.Attach(ctx, owner) })
	requireBusy(t, pid, func(ctx context.Context) error { return migrations.Detach(ctx, owner) })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	down(t, owner)
	if n := triggerCount(t, pool); n != 0 {
		t.Errorf("%d triggers after Down", n)
	}
}

func TestOwnerWithCreateRoleMigrates(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	w := populate(t, pool)
	owner := newRoleMaker(t, pool)
	before := lines(t, pool, fingerprintSQL)
	up(t, owner)
	if applied := up(t, owner); len(applied) != 0 {
		t.Errorf("the second Up applied %q", applied)
	}
	requireOwnerCanDoAll(t, pool, owner, w)
	exec(t, pool, `UPDATE public.task_usage SET input_tokens = 30 WHERE task_id = @done`, w)
	requireSameHost(t, pool, before)
}

// newRoleMaker makes an owner who may create roles. From Postgres 16 on that gives no right to roles that others have made, and they may have:
// an administrator has to grant those.
func newRoleMaker(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	role, owner := newOwner(t, pool, "CREATEROLE")
	for _, sql := range lines(t, pool, `SELECT format('GRANT %I TO %I WITH ADMIN OPTION', rolname, $1::text) FROM pg_roles
		WHERE rolname IN ('daybook_trigger', 'daybook_owner') AND current_setting('server_version_num')::integer >= 160000`, role) {
		exec(t, pool, sql)
	}
	return owner
}

// makeRoles makes the group roles. Nothing that the programs need may be left to grant; what is optional an administrator grants then.
func makeRoles(t *testing.T, admin, owner *pgxpool.Pool) {
	t.Helper()
	result, err := migrations.CreateRoles(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, grant := range result.Missing {
		if !grant.Optional {
			t.Errorf("left to run: %s", grant.Statement)
		}
		exec(t, admin, grant.Statement)
	}
	result, err = migrations.CreateRoles(t.Context(), owner)
	if err != nil || len(result.Missing) > 0 || len(result.Warnings) > 0 {
		t.Errorf("the second time: %+v, %v", result, err)
	}
}

// An owner who is no superuser. From Postgres 16 on, who makes a role is no full member of it.
func TestOwnerWithCreateRoleMakesRoles(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	w := populate(t, pool)
	owner := newRoleMaker(t, pool)
	up(t, owner)
	makeRoles(t, pool, owner)
	others := lines(t, pool, `
		SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = 'daybook'::regnamespace AND c.relkind IN ('r', 'v', 'S') AND c.relowner <> 'daybook_owner'::regrole
		UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p
		WHERE p.pronamespace = 'daybook'::regnamespace AND p.proowner NOT IN ('daybook_owner'::regrole, 'daybook_trigger'::regrole)`)
	if len(others) != 0 {
		t.Errorf("not of daybook_owner: %q", others)
	}
	requireOwnerCanDoAll(t, pool, owner, w)
}

// What daybook_owner is for: whoever is a member of it, and of the role that owns the host's tables, and may make no roles.
func TestMemberOfOwnerCanDoAll(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	w := populate(t, pool)
	makeRoles(t, pool, pool)
	hostRole, _ := newOwner(t, pool, "")
	member := newMember(t, pool, "daybook_owner", hostRole)
	requireOwnerCanDoAll(t, pool, member, w) // With the schema of an administrator.
	up(t, member)
	makeRoles(t, pool, member)
	requireOwnerCanDoAll(t, pool, member, w) // With its own.
}

// newMember makes a role that may log in, and nothing but what it is granted, and returns a pool on which it is logged in.
func newMember(t *testing.T, pool *pgxpool.Pool, groups ...string) *pgxpool.Pool {
	t.Helper()
	role := "daybook_test_" + strings.ToLower(rand.Text())
	exec(t, pool, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD '%[1]s' IN ROLE %s`, role, strings.Join(groups, ", ")))
	t.Cleanup(func() {
		for _, sql := range []string{`REASSIGN OWNED BY %s TO CURRENT_USER`, `DROP OWNED BY %s`, `DROP ROLE %s`} {
			if _, err := pool.Exec(context.Background(), fmt.Sprintf(sql, role)); err != nil {
				t.Errorf("drop role: %v", err)
			}
		}
	})
	return testdb.Open(t, pool, func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = role, role
	})
}

var advice = regexp.MustCompile(`Have an administrator run: (.*;)`)

// An owner who may not make roles is told what to have done, and can go on once it is.
func TestOwnerWithoutCreateRoleIsToldWhatToRun(t *testing.T) {
	t.Parallel()
	testdb.New(t) // As long as this database is there, the role daybook_trigger is.
	pool := testdb.NewHost(t)
	w := populate(t, pool)
	role, owner := newOwner(t, pool, "")
	_, err := migrations.Up(t.Context(), owner)
	if err == nil {
		t.Fatal("Up worked")
	}
	sql := advice.FindStringSubmatch(err.Error())
	if want := fmt.Sprintf("GRANT daybook_trigger TO %s;", role); sql == nil || sql[1] != want {
		t.Fatalf("error %q, want one that says %q", err, want)
	}
	exec(t, pool, sql[1])
	up(t, owner)
	requireOwnerCanDoAll(t, pool, owner, w)
}

// makeRoleBlock returns the statement of the migrations that makes the role daybook_trigger, with a role of the test's own in its
// place: that one can be missing. The role is dropped when the test ends.
func makeRoleBlock(t *testing.T, pool *pgxpool.Pool, role string) string {
	t.Helper()
	migration, err := fs.ReadFile(migrations.Files(), "0001_create_queue.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(migration), "-- +goose StatementBegin\n")
	block, _, found := strings.Cut(block, "-- +goose StatementEnd")
	if !found || !strings.Contains(block, "CREATE ROLE daybook_trigger") {
		t.Fatal("the first block of 0001 does not make the role")
	}
	t.Cleanup(func() {
		for _, sql := range []string{`DROP SCHEMA daybook`, `DROP ROLE IF EXISTS ` + role} {
			if _, err := pool.Exec(context.Background(), sql); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	exec(t, pool, `CREATE SCHEMA daybook`)
	return strings.ReplaceAll(block, "daybook_trigger", role)
}

func TestOwnerIsToldToHaveTheRoleMade(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	role, owner := newOwner(t, pool, "")
	missing := role + "_trigger"
	block := makeRoleBlock(t, pool, missing)
	exec(t, pool, `ALTER SCHEMA daybook OWNER TO `+role)
	_, err := owner.Exec(t.Context(), block)
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		t.Fatalf("error %v, want one of Postgres", err)
	}
	sql := advice.FindStringSubmatch(pgErr.Hint)
	want := fmt.Sprintf("CREATE ROLE %s NOLOGIN; GRANT %[1]s TO %s;", missing, role)
	if sql == nil || sql[1] != want || !strings.Contains(pgErr.Message, missing+" is missing") {
		t.Fatalf("error %q, hint %q, want %q", pgErr.Message, pgErr.Hint, want)
	}
	exec(t, pool, sql[1])
	exec(t, owner, block)
}

// The role belongs to the cluster: Down in another database may drop it while Up is about to use it.
func TestRoleIsDroppedAtTheSameMoment(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	database := pool.Config().ConnConfig.Database
	role := "daybook_test_" + database[len(database)-8:] + "_trigger"
	block := makeRoleBlock(t, pool, role)
	exec(t, pool, `CREATE ROLE `+role)
	other, pid := hold(t, pool, `DROP ROLE `+role)
	over := make(chan struct{})
	var err error
	go func() {
		defer close(over)
		_, err = pool.Exec(t.Context(), block)
	}()
	await(t, pool, over, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))`, pid)
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-over
	if err != nil {
		t.Fatal(err)
	}
	if !scalar[bool](t, pool, `SELECT has_schema_privilege($1, 'daybook', 'USAGE')`, role) {
		t.Error("the role has no privilege")
	}
}

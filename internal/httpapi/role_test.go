package httpapi_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/migrations"
)

// readGrants is all that a role needs for every endpoint that reads rollups, where nothing is granted to PUBLIC.
var readGrants = []string{
	"USAGE ON SCHEMA public",
	"USAGE ON SCHEMA daybook",
	"SELECT ON public.agent_runtime",
	"SELECT (workspace_id, user_id, role) ON public.member",
	"SELECT (id, slug) ON public.workspace",
	"SELECT (user_id, token_hash, expires_at, revoked) ON public.personal_access_token",
	"SELECT ON daybook.runtime_rollup",
	"SELECT ON daybook.dimension",
	"SELECT ON daybook.usage_name",
	"SELECT ON daybook.ledger_task",
	"SELECT ON daybook.ledger_usage",
	"SELECT ON daybook.bucket_usage_daily",
	"SELECT ON daybook.bucket_usage_by_agent",
	"SELECT ON daybook.bucket_usage_by_hour",
	"SELECT ON daybook.task_activity_by_hour",
	"SELECT ON daybook.bucket_workspace_usage",
	"SELECT ON daybook.bucket_workspace_usage_by_agent",
	"SELECT ON daybook.workspace_run_time_daily",
	"EXECUTE ON FUNCTION daybook.effective_zone(text)",
	"EXECUTE ON FUNCTION daybook.token_user(text)",
	"EXECUTE ON FUNCTION daybook.readable_runtime(uuid, text, uuid)",
	"EXECUTE ON FUNCTION daybook.readable_workspace(uuid, text, text, uuid)",
}

// lagGrants is what the lag needs besides.
var lagGrants = []string{
	"SELECT ON daybook.task_usage_daily_dirty",
	"SELECT ON daybook.dirty_scope",
	"SELECT ON daybook.worker_heartbeat",
	"SELECT ON daybook.coverage",
	"SELECT ON daybook.shard_progress",
	"EXECUTE ON FUNCTION daybook.shard_count()",
	"EXECUTE ON FUNCTION daybook.queue_start(smallint)",
	"EXECUTE ON FUNCTION daybook.counted()",
	"EXECUTE ON FUNCTION daybook.attached()",
	"EXECUTE ON FUNCTION daybook.host_triggers()",
}

// sourceGrants is what the host's tables as the source need besides.
var sourceGrants = []string{
	"SELECT (id, workspace_id) ON public.agent",
	"SELECT (id, agent_id, runtime_id, issue_id, status, started_at, completed_at) ON public.agent_task_queue",
	"SELECT (id, project_id) ON public.issue",
	"SELECT ON public.task_usage",
}

// readyGrants is what /readyz needs.
var readyGrants = []string{
	"USAGE ON SCHEMA daybook",
	"SELECT ON daybook.schema_migration",
	"SELECT ON daybook.river_migration",
}

// role is a role that has only been granted what a test grants it.
type role struct {
	admin *pgxpool.Pool
	name  string
}

func newRole(t *testing.T, admin *pgxpool.Pool) role {
	t.Helper()
	r := role{admin, "daybook_test_reader_" + strings.ToLower(rand.Text())}
	exec(t, admin, `REVOKE ALL ON SCHEMA public FROM PUBLIC`)
	exec(t, admin, `REVOKE ALL ON ALL FUNCTIONS IN SCHEMA daybook FROM PUBLIC`)
	exec(t, admin, `CREATE ROLE `+r.name+` LOGIN PASSWORD 'reader'`)
	// Roles belong to the server, so this one must not stay.
	t.Cleanup(func() {
		for _, sql := range []string{`DROP OWNED BY ` + r.name, `DROP ROLE ` + r.name} {
			if _, err := admin.Exec(context.Background(), sql); err != nil {
				t.Error(err)
			}
		}
	})
	return r
}

// newMember is a role that has been granted nothing but groups of those that migrations make.
func newMember(t *testing.T, admin *pgxpool.Pool, groups ...string) role {
	t.Helper()
	if result, err := migrations.CreateRoles(t.Context(), admin); err != nil || len(result.Missing) > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	r := newRole(t, admin)
	exec(t, admin, `GRANT `+strings.Join(groups, ", ")+` TO `+r.name)
	return r
}

func (r role) grant(t *testing.T, grants ...string) {
	t.Helper()
	for _, g := range grants {
		exec(t, r.admin, `GRANT `+g+` TO `+r.name)
	}
}

func (r role) revoke(t *testing.T, grant string) {
	t.Helper()
	exec(t, r.admin, `REVOKE `+grant+` FROM `+r.name)
}

// withoutEach calls f while one of the grants is missing, for each of them, to show that none is too much.
func (r role) withoutEach(t *testing.T, grants []string, f func(grant string)) {
	t.Helper()
	for _, grant := range grants {
		r.revoke(t, grant)
		f(grant)
		r.grant(t, grant)
	}
}

// serve puts the API before new connections of the role: what one has been allowed before it may remember. Transactions are
// read-only, as in the command.
func (r role) serve(t *testing.T, configure ...func(*httpapi.Config)) *bundle {
	t.Helper()
	return serve(t, testdb.Open(t, r.admin, func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = r.name, "reader"
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}), configure...)
}

// failures asks every endpoint, as a member and with a personal access token, and returns those that answer 500.
func (b *bundle) failures(t *testing.T, runtime string) (failed []string) {
	t.Helper()
	for path, header := range map[string]http.Header{
		"": {"Authorization": {"Bearer " + token(t, member)}}, "by token ": {"Authorization": {"Bearer mul_unknown"}},
	} {
		for _, pattern := range readPatterns {
			a := b.do(t, http.MethodGet, pathOf(pattern, runtime), header)
			if a.status == http.StatusInternalServerError {
				failed = append(failed, path+pattern)
			}
		}
	}
	return failed
}

// addRuntimesToRead adds runtimes with usage: one whose buckets are built, one whose are not yet, and one in a zone that Postgres does not know.
func (b *bundle) addRuntimesToRead(t *testing.T) (built, pending, unknown string) {
	t.Helper()
	built, pending, unknown = b.addRuntime(t, "Asia/Tokyo"), b.addRuntime(t, "Asia/Tokyo"), b.addRuntime(t, "Asia/Tokyo")
	for _, runtime := range []string{built, pending, unknown} {
		b.addHours(t, runtime)
	}
	b.drain(t)
	b.setZone(t, pending, "America/New_York")
	b.setZone(t, unknown, "Local")
	return built, pending, unknown
}

func TestRoleThatMayOnlyRead(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	built, pending, unknown := admin.addRuntimesToRead(t)
	r := newRole(t, admin.pool)
	r.grant(t, readGrants...)
	b := r.serve(t)
	for _, runtime := range []string{built, pending, unknown} {
		a := b.get(t, owner, usagePath(runtime, ""))
		a.require(t, http.StatusOK)
		if len(rowsOf(t, a)) == 0 {
			t.Error("no rows")
		}
		if lag := a.header.Get("Daybook-Lag-Seconds"); lag != "" {
			t.Errorf("a role that may not read the queue says that the lag is %q", lag)
		}
		b.get(t, stranger, usagePath(runtime, "")).require(t, http.StatusNotFound)
		if failed := b.failures(t, runtime); failed != nil {
			t.Errorf("these fail: %q", failed)
		}
	}
	r.withoutEach(t, readGrants, func(grant string) {
		if failed := r.serve(t).failures(t, pending); failed == nil {
			t.Errorf("nothing fails without %s", grant)
		}
	})
}

// What the api's login is, by docs/roles.md: every endpoint, the lag, /readyz and /metrics.
func TestMemberOfTheApisGroups(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	built, pending, unknown := admin.addRuntimesToRead(t)
	r := newMember(t, admin.pool, "daybook_api", "daybook_metrics")
	b := r.serve(t)
	for _, runtime := range []string{built, pending, unknown} {
		a := b.get(t, owner, usagePath(runtime, ""))
		a.require(t, http.StatusOK)
		if len(rowsOf(t, a)) == 0 || a.header.Get("Daybook-Lag-Seconds") == "" {
			t.Errorf("%d rows, lag %q", len(rowsOf(t, a)), a.header.Get("Daybook-Lag-Seconds"))
		}
		b.get(t, stranger, usagePath(runtime, "")).require(t, http.StatusNotFound)
		if failed := b.failures(t, runtime); failed != nil {
			t.Errorf("these fail: %q", failed)
		}
	}
	b.get(t, "", "/readyz").require(t, http.StatusOK)
	metrics := func(b *bundle) string {
		w := httptest.NewRecorder()
		b.api.Metrics().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	body := metrics(b)
	for _, want := range []string{"daybook_rollup_up 1", "daybook_rollup_lag_seconds ", "daybook_workers 0", "daybook_cleanup_held_seconds "} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("/metrics is without %q:\n%s", want, body)
		}
	}
	// Where it may not ask for the oldest transaction, it says the rest.
	exec(t, admin.pool, `REVOKE EXECUTE ON FUNCTION daybook.cleanup_held() FROM daybook_metrics`)
	if body := metrics(r.serve(t)); !strings.Contains(body, "\ndaybook_rollup_up 1") || strings.Contains(body, "\ndaybook_cleanup_held") {
		t.Errorf("without the right to ask for the oldest transaction /metrics is\n%s", body)
	}
	// The source is not of the groups.
	fromSource := func(c *httpapi.Config) { c.Source = httpapi.SourceHost }
	if failed := r.serve(t, fromSource).failures(t, built); failed == nil {
		t.Error("the groups may read the source")
	}
	r.grant(t, "SELECT ON public.agent, public.agent_task_queue, public.issue, public.task_usage")
	if failed := r.serve(t, fromSource).failures(t, built); failed != nil {
		t.Errorf("these fail: %q", failed)
	}
}

func TestRoleForTheLag(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	runtime := admin.addRuntime(t, "UTC")
	r := newRole(t, admin.pool)
	r.grant(t, append(readGrants, lagGrants...)...)
	lag := func() string {
		return r.serve(t).get(t, owner, usagePath(runtime, "")).header.Get("Daybook-Lag-Seconds")
	}
	if lag() == "" {
		t.Error("no lag")
	}
	r.withoutEach(t, lagGrants, func(grant string) {
		if got := lag(); got != "" {
			t.Errorf("without %s the lag is %q", grant, got)
		}
	})
}

func TestRoleForTheSource(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	runtime := admin.addRuntime(t, "UTC")
	r := newRole(t, admin.pool)
	r.grant(t, append(readGrants, sourceGrants...)...)
	fromSource := func(c *httpapi.Config) { c.Source = httpapi.SourceHost }
	if failed := r.serve(t, fromSource).failures(t, runtime); failed != nil {
		t.Errorf("these fail: %q", failed)
	}
	r.withoutEach(t, sourceGrants, func(grant string) {
		if failed := r.serve(t, fromSource).failures(t, runtime); failed == nil {
			t.Errorf("nothing fails without %s", grant)
		}
	})
}

func TestRoleForReadiness(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	r := newRole(t, admin.pool)
	r.grant(t, readyGrants...)
	r.serve(t).get(t, "", "/readyz").require(t, http.StatusOK)
	r.withoutEach(t, readyGrants, func(string) {
		a := r.serve(t).ask(t, "/readyz")
		a.require(t, http.StatusServiceUnavailable)
		a.requireGolden(t, "not_ready")
	})
}

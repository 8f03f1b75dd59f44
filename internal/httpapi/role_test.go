package httpapi_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// usageGrants is all that a role needs for the usage of runtimes, where nothing is granted to PUBLIC.
var usageGrants = []string{
	"USAGE ON SCHEMA public",
	"USAGE ON SCHEMA daybook",
	"SELECT (id, workspace_id, timezone) ON public.agent_runtime",
	"SELECT (workspace_id, user_id) ON public.member",
	"SELECT ON daybook.runtime_rollup",
	"SELECT ON daybook.task_usage_daily",
	"SELECT ON daybook.task_usage_fact",
	"EXECUTE ON FUNCTION daybook.effective_zone(text)",
}

// readyGrants is what /readyz needs besides.
var readyGrants = []string{
	"SELECT ON daybook.task_usage_daily_dirty",
	"SELECT ON daybook.dirty_scope",
	"EXECUTE ON FUNCTION daybook.shard_count()",
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

// serve puts the API before new connections of the role: what one has been allowed before it may remember. Transactions are
// read-only, as in the command.
func (r role) serve(t *testing.T) *bundle {
	t.Helper()
	return serve(t, testdb.Open(t, r.admin, func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = r.name, "reader"
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}))
}

func TestRoleThatMayOnlyRead(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	built, pending, unknown := admin.addRuntime(t, "Asia/Tokyo"), admin.addRuntime(t, "Asia/Tokyo"), admin.addRuntime(t, "Asia/Tokyo")
	for _, runtime := range []string{built, pending, unknown} {
		admin.addHours(t, runtime)
	}
	admin.drain(t)
	admin.setZone(t, pending, "America/New_York")
	admin.setZone(t, unknown, "Local")
	r := newRole(t, admin.pool)
	r.grant(t, usageGrants...)
	b := r.serve(t)
	for _, runtime := range []string{built, pending, unknown} {
		a := b.get(t, owner, usagePath(runtime, ""))
		a.require(t, http.StatusOK)
		if len(rowsOf(t, a)) == 0 {
			t.Error("no rows")
		}
		b.get(t, stranger, usagePath(runtime, "")).require(t, http.StatusNotFound)
	}
	b.get(t, "", "/readyz").require(t, http.StatusInternalServerError)
	r.grant(t, readyGrants...)
	r.serve(t).get(t, "", "/readyz").require(t, http.StatusOK)

	// None of them is too much.
	for _, grant := range usageGrants {
		r.revoke(t, grant)
		a := r.serve(t).ask(t, usagePath(pending, ""))
		if a.status != http.StatusInternalServerError {
			t.Errorf("without %s: %d", grant, a.status)
		}
		a.requireGolden(t, "internal")
		r.grant(t, grant)
	}
	for _, grant := range readyGrants {
		r.revoke(t, grant)
		if a := r.serve(t).ask(t, "/readyz"); a.status != http.StatusInternalServerError {
			t.Errorf("without %s: %d", grant, a.status)
		}
		r.grant(t, grant)
	}
}

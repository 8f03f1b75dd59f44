package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// writeGrants is all that a role needs for changes, where nothing is granted to PUBLIC. What the triggers and the host's foreign keys do
// needs no grant.
var writeGrants = []string{
	"USAGE ON SCHEMA public",
	"USAGE ON SCHEMA daybook",
	"SELECT ON public.agent_runtime",
	"UPDATE (timezone, visibility, updated_at) ON public.agent_runtime",
	"DELETE ON public.agent_runtime",
	"SELECT (runtime_id, archived_at) ON public.agent",
	"DELETE ON public.agent",
	"SELECT (workspace_id, user_id, role) ON public.member",
	"SELECT (user_id, token_hash, expires_at, revoked) ON public.personal_access_token",
	"SELECT ON daybook.runtime_rollup",
	"EXECUTE ON FUNCTION daybook.effective_zone(text)",
	"EXECUTE ON FUNCTION daybook.token_user(text)",
	"EXECUTE ON FUNCTION daybook.readable_runtime(uuid, text, uuid)",
}

// open returns a pool of new connections of the role.
func (r role) open(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testdb.Open(t, r.admin, func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = r.name, "reader" })
}

// changes returns those changes that fail for a user, who has the access token too. Reads are not the role's.
func (r role) changes(t *testing.T, admin *bundle, access http.Header) (failed []string) {
	t.Helper()
	pool := r.open(t)
	defer pool.Close()
	b := serve(t, admin.pool, withWritePool(pool))
	for caller, header := range map[string]http.Header{"JWT": bearer(t, owner), "access token": access} {
		id := admin.addUnused(t)
		agent := admin.addAgent(t, id, "now()")
		exec(t, admin.pool, `INSERT INTO public.agent_task_queue (agent_id, runtime_id, started_at) VALUES ($1, $2, now())`, agent, id)
		for _, body := range []string{`{"timezone":"Asia/Tokyo","visibility":"public"}`, `{"timezone":"Asia/Seoul"}`, `{}`} {
			if a := b.doBody(t, http.MethodPatch, "/api/runtimes/"+id, header, body); a.status != http.StatusOK {
				failed = append(failed, caller+" PATCH "+body+a.body)
			}
		}
		if a := b.doBody(t, http.MethodDelete, "/api/runtimes/"+id, header, ""); a.status != http.StatusOK {
			failed = append(failed, caller+" DELETE"+a.body)
		}
	}
	return failed
}

// requireNothingElse fails the test if the role may change more of the host than the zone and the visibility, or read more than it needs.
func (r role) requireNothingElse(t *testing.T, admin *bundle) {
	t.Helper()
	id := admin.addRuntime(t, "UTC")
	pool := r.open(t)
	for _, sql := range []string{
		`UPDATE public.agent_runtime SET owner_id = NULL WHERE id = $1`, `UPDATE public.agent SET runtime_id = $1`,
		`UPDATE public.member SET role = 'owner' WHERE workspace_id = $1`, `DELETE FROM public.agent_task_queue WHERE runtime_id = $1`,
		`INSERT INTO public.agent_runtime (workspace_id, name, provider) VALUES ($1, '', '')`, `DELETE FROM daybook.runtime_rollup WHERE runtime_id = $1`,
		`INSERT INTO daybook.runtime_rebuild (runtime_id) VALUES ($1)`, `SELECT a.* FROM public.agent a WHERE a.runtime_id = $1`,
		`SELECT m.* FROM public.member m WHERE m.workspace_id = $1`,
	} {
		if _, err := pool.Exec(t.Context(), sql, id); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestRoleThatMayChange(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	access := http.Header{"Authorization": {"Bearer " + admin.addAccessToken(t, owner)}}
	r := newRole(t, admin.pool)
	r.grant(t, writeGrants...)
	if failed := r.changes(t, admin, access); failed != nil {
		t.Errorf("these fail: %q", failed)
	}
	r.withoutEach(t, writeGrants, func(grant string) {
		if failed := r.changes(t, admin, access); failed == nil {
			t.Errorf("nothing fails without %s", grant)
		}
	})
	r.requireNothingElse(t, admin)
}

func TestMemberOfTheGroupThatMayChange(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	access := http.Header{"Authorization": {"Bearer " + admin.addAccessToken(t, owner)}}
	r := newMember(t, admin.pool, "daybook_api_write")
	if failed := r.changes(t, admin, access); failed != nil {
		t.Errorf("these fail: %q", failed)
	}
	r.requireNothingElse(t, admin)
}

// The API is read-only by its role's grants, not only by a setting.
func TestRoleThatMayReadCannotWrite(t *testing.T) {
	t.Parallel()
	for name, newReader := range map[string]func(*testing.T, *pgxpool.Pool) role{
		"grants": func(t *testing.T, admin *pgxpool.Pool) role {
			t.Helper()
			r := newRole(t, admin)
			r.grant(t, slices.Concat(readGrants, lagGrants, sourceGrants, readyGrants)...)
			return r
		},
		"groups": func(t *testing.T, admin *pgxpool.Pool) role {
			t.Helper()
			return newMember(t, admin, "daybook_api", "daybook_metrics")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin := setup(t)
			requireReadsOnly(t, admin, newReader(t, admin.pool))
		})
	}
}

func requireReadsOnly(t *testing.T, admin *bundle, r role) {
	t.Helper()
	id := admin.addRuntime(t, "Asia/Tokyo")
	unused := admin.addUnused(t)
	pool := r.open(t) // Its transactions may write, if the grants allow it.
	b := serve(t, pool, withWritePool(pool))
	before := admin.host(t)
	for _, body := range []string{`{"timezone":"UTC"}`, `{"visibility":"public"}`, `{"timezone":"UTC","visibility":"public"}`} {
		a := b.patch(t, owner, id, body)
		a.require(t, http.StatusInternalServerError)
		if strings.Contains(a.body, "permission") || strings.Contains(a.body, "agent_runtime") {
			t.Errorf("the answer shows the inside: %s", a.body)
		}
	}
	for _, target := range []string{id, unused} {
		b.delete(t, owner, target).require(t, http.StatusInternalServerError)
	}
	tables := query[[]string](t, admin.pool, `
		SELECT array_agg(format('%I.%I', schemaname, tablename)) FROM pg_tables WHERE schemaname IN ('public', 'daybook')`)
	if len(tables) < 20 {
		t.Errorf("tables are %q", tables)
	}
	for _, table := range tables {
		for _, sql := range []string{`DELETE FROM ` + table, `INSERT INTO ` + table + ` DEFAULT VALUES`, `TRUNCATE ` + table} {
			if _, err := pool.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("%s: %v", sql, err)
			}
		}
	}
	if after := admin.host(t); after != before {
		t.Errorf("host was\n%s\nand is\n%s", before, after)
	}
	if a := b.get(t, owner, usagePath(id, "")); a.status != http.StatusOK {
		t.Errorf("it cannot read either: %s", a.body)
	}
}

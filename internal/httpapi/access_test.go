package httpapi_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
)

// nobody is an id that no user, runtime or workspace has.
const nobody = "00000000-0000-4000-8000-0000000000ff"

// apiRoute is a route under /api, as the router has it.
type apiRoute struct{ method, pattern string }

// apiRoutes asks the router itself, so that no test can forget a new route.
func apiRoutes(t *testing.T, api *httpapi.API) (routes []apiRoute) {
	t.Helper()
	router, ok := api.Handler.(chi.Routes)
	if !ok {
		t.Fatalf("the handler is a %T, not a router", api.Handler)
	}
	err := chi.Walk(router, func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if strings.HasPrefix(pattern, "/api/") {
			routes = append(routes, apiRoute{method, pattern})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// That the walk finds all of them is not to be taken on trust.
	for _, pattern := range readPatterns {
		if !slices.Contains(routes, apiRoute{http.MethodGet, pattern}) {
			t.Errorf("the walk has not found GET %s", pattern)
		}
	}
	for _, pattern := range usagePatterns {
		if !slices.Contains(routes, apiRoute{http.MethodGet, pattern + ".csv"}) {
			t.Errorf("the walk has not found GET %s.csv", pattern)
		}
	}
	return routes
}

// path is the route for a runtime or, if it is about a workspace, for the one that naming names.
func (r apiRoute) path(runtime, naming string) string {
	if r.ofRuntime() {
		return strings.ReplaceAll(r.pattern, "{runtimeId}", runtime)
	}
	return r.pattern + "?" + naming
}

func (r apiRoute) ofRuntime() bool { return strings.Contains(r.pattern, "{runtimeId}") }
func (r apiRoute) isUsage() bool {
	return slices.Contains(usagePatterns, strings.TrimSuffix(r.pattern, ".csv"))
}

// body is one that the route takes.
func (r apiRoute) body() string {
	if r.method == http.MethodPatch {
		return `{"visibility":"public"}`
	}
	return ""
}

// serveWithWrites puts an API that may write before a pool.
func serveWithWrites(t *testing.T, pool *pgxpool.Pool) *bundle {
	t.Helper()
	return serve(t, pool, withWritePool(pool))
}

func withWritePool(pool *pgxpool.Pool) func(*httpapi.Config) {
	return func(c *httpapi.Config) { c.WritePool = pool }
}

// bearer is the header for a user's JWT.
func bearer(t *testing.T, user string) http.Header {
	t.Helper()
	return http.Header{"Authorization": {"Bearer " + token(t, user)}}
}

// addUnused adds a runtime of acme that no agent is bound to.
func (b *bundle) addUnused(t *testing.T) string {
	t.Helper()
	return query[string](t, b.pool, `
		INSERT INTO public.agent_runtime (workspace_id, name, provider)
		VALUES ('00000000-0000-4000-8000-000000000001', 'unused', 'p') RETURNING id::text`)
}

// addAccessToken adds a personal access token of a user, good until it is revoked, and returns it.
func (b *bundle) addAccessToken(t *testing.T, user string) string {
	t.Helper()
	token := "mul_" + rand.Text()
	exec(t, b.pool, `INSERT INTO public.personal_access_token (user_id, token_hash) VALUES ($1, encode(sha256($2::text::bytea), 'hex'))`, user, token)
	return token
}

// whole is an answer but for what may differ between two that are the same: when it was made.
func (a answer) whole() string {
	var out strings.Builder
	fmt.Fprintln(&out, a.status)
	header := a.header.Clone()
	header.Del("Date")
	for key := range header {
		if strings.HasPrefix(key, "X-") {
			header.Del(key)
		}
	}
	header.Write(&out) //nolint:errcheck // A builder takes everything.
	return out.String() + a.body
}

// badAuthorizations are values of the header that nobody may pass with. The pool's API takes HS256 alone.
func badAuthorizations(t *testing.T) map[string]string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any, expires time.Duration) string {
		signed, err := jwt.NewWithClaims(method, jwt.MapClaims{"sub": owner, "exp": time.Now().Add(expires).Unix()}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + signed
	}
	return map[string]string{
		"none":           "",
		"garbage":        "Bearer garbage",
		"other scheme":   "Basic b3duZXI6b3duZXI=",
		"expired":        sign(jwt.SigningMethodHS256, []byte(secret), -time.Hour),
		"alg none":       sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, time.Hour),
		"HS384":          sign(jwt.SigningMethodHS384, []byte(secret), time.Hour),
		"RS256":          sign(jwt.SigningMethodRS256, key, time.Hour),
		"wrong secret":   sign(jwt.SigningMethodHS256, []byte("another secret that is as long as it"), time.Hour),
		"unknown access": "Bearer mul_0123456789abcdef",
	}
}

func TestEveryRouteByEveryone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b = serveWithWrites(t, b.pool)
	id := b.addRuntime(t, "UTC")
	b.addUsage(t, id, "UTC", "now()", "p", "m", [4]int64{1, 1, 1, 1})
	b.drain(t)
	bad := badAuthorizations(t)
	// Whom the answers below are for must be who they are told to be.
	b.get(t, owner, "/api/runtimes/"+id).require(t, http.StatusOK)
	const acme, unknownSlug, unknownID = "workspace_slug=acme", "workspace_slug=nothing", "workspace_id=" + nobody

	routes := apiRoutes(t, b.api)
	for _, change := range []apiRoute{
		{http.MethodPatch, "/api/runtimes/{runtimeId}"}, {http.MethodDelete, "/api/runtimes/{runtimeId}"},
	} {
		if !slices.Contains(routes, change) {
			t.Errorf("the walk has not found %s %s", change.method, change.pattern)
		}
	}
	for _, route := range routes {
		t.Run(route.method+" "+route.pattern, func(t *testing.T) {
			t.Parallel()
			target := id
			if route.method == http.MethodDelete {
				target = b.addUnused(t)
			}
			ask := func(header http.Header, path string) answer {
				return b.doBody(t, route.method, path, header, route.body())
			}
			for name, authorization := range bad {
				header := http.Header{}
				if authorization != "" {
					header.Set("Authorization", authorization)
				}
				a := ask(header, route.path(target, acme))
				a.require(t, http.StatusUnauthorized)
				if a.body != `{"error":"a valid bearer token is required"}`+"\n" || a.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s: header %v, body %s", name, a.header, a.body)
				}
			}

			notFound := ask(bearer(t, owner), route.path(nobody, unknownSlug))
			notFound.require(t, http.StatusNotFound)
			want := `{"error":"workspace not found"}` + "\n"
			if route.ofRuntime() {
				want = `{"error":"runtime not found"}` + "\n"
			}
			if notFound.body != want {
				t.Errorf("body is %s, want %s", notFound.body, want)
			}
			for name, a := range map[string]answer{
				"unknown id":               ask(bearer(t, owner), route.path(nobody, unknownID)),
				"unknown, by slug":         ask(bearer(t, stranger), route.path(nobody, unknownSlug)),
				"unknown, of a stranger":   ask(bearer(t, stranger), route.path(nobody, unknownID)),
				"another tenant's member":  ask(bearer(t, stranger), route.path(target, acme)),
				"by id":                    ask(bearer(t, stranger), route.path(target, "workspace_id=00000000-0000-4000-8000-000000000001")),
				"of no workspace":          ask(bearer(t, outsider), route.path(target, acme)),
				"no such user":             ask(bearer(t, nobody), route.path(target, acme)),
				"another's access token":   ask(http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, stranger)}}, route.path(target, acme)),
				"access token, unknown id": ask(http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, owner)}}, route.path(nobody, unknownID)),
			} {
				if a.whole() != notFound.whole() {
					t.Errorf("%s: answer is\n%s\nwant\n%s", name, a.whole(), notFound.whole())
				}
			}

			for _, user := range []string{member, admin, owner} {
				changes := route.method != http.MethodGet
				if route.method == http.MethodDelete {
					target = b.addUnused(t)
				}
				a := ask(bearer(t, user), route.path(target, acme))
				switch {
				case changes && user == member:
					a.require(t, http.StatusForbidden)
					if a.body != `{"error":"you can only edit your own runtimes"}`+"\n" {
						t.Errorf("body is %s", a.body)
					}
				case a.status != http.StatusOK:
					t.Errorf("%s: status is %d, body %s", user, a.status, a.body)
				}
			}
		})
	}
}

// statements keeps the text of all that is sent to the database, also of statements that are prepared.
type statements struct {
	mu   sync.Mutex
	sent []string
}

func (s *statements) add(sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, sql)
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.add(data.SQL)
	return ctx
}

func (s *statements) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	s.add("prepare " + data.SQL)
	return ctx
}

func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.add("a batch")
	return ctx
}

func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)     {}
func (*statements) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}
func (*statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// take returns what was sent since it was last called, and what of that is for the request alone: the lag is read once a second for all.
func (s *statements) take() (all, own []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.sent = s.sent, nil
	for _, sql := range all {
		if !strings.Contains(sql, "GetLag") {
			own = append(own, sql)
		}
	}
	return all, own
}

// countedConn counts the messages that are sent over it. The driver writes once for each round trip.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// watch puts the API before one connection for reading and one for writing, all of whose traffic is seen. A connection that has been
// idle for a second is asked first whether it is alive; that is not looked at here.
func watch(t *testing.T, pool *pgxpool.Pool, configure ...func(*httpapi.Config)) (*bundle, *statements, *atomic.Int64) {
	t.Helper()
	s, writes := &statements{}, &atomic.Int64{}
	open := func() *pgxpool.Pool {
		return testdb.Open(t, pool, func(c *pgxpool.Config) {
			c.MaxConns = 1
			c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
			c.ConnConfig.Tracer = s
			dial := c.ConnConfig.DialFunc
			c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return countedConn{conn, writes}, err
			}
		})
	}
	return serve(t, open(), append(configure, withWritePool(open()))...), s, writes
}

// settle waits until nothing is using a connection, as the reading of the lag may still do after an answer.
func (b *bundle) settle() {
	for b.pool.Stat().AcquiredConns() > 0 {
		runtime.Gosched()
	}
}

// sources are the two tables that usage can be read from.
var sources = []httpapi.Source{httpapi.SourceRollup, httpapi.SourceHost}

func TestAnAnswerCostsOneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, source := range sources {
		t.Run(string(source), func(t *testing.T) {
			t.Parallel()
			admin := setup(t)
			b, s, writes := watch(t, admin.pool, func(c *httpapi.Config) { c.Source = source })
			built, pending, empty := admin.addRuntime(t, "UTC"), admin.addRuntime(t, "UTC"), admin.addRuntime(t, "UTC")
			for _, id := range []string{built, pending} {
				admin.addUsage(t, id, "UTC", "now()", "p", "m", [4]int64{1, 1, 1, 1})
			}
			admin.drain(t)
			admin.setZone(t, pending, "Asia/Tokyo")
			callers := map[string]http.Header{
				"JWT":          bearer(t, member),
				"access token": {"Authorization": {"Bearer " + admin.addAccessToken(t, member)}},
			}
			for _, route := range apiRoutes(t, b.api) {
				if route.method != http.MethodGet {
					continue
				}
				for caller, header := range callers {
					for _, id := range []string{built, pending, empty} {
						path := route.path(id, "workspace_slug=acme")
						// The first time on a connection a statement is prepared, and the second time also that which reads the lag is.
						b.do(t, route.method, path, header)
						b.settle()
						s.take()
						writes.Store(0)
						if a := b.do(t, route.method, path, header); a.status != http.StatusOK {
							t.Fatalf("%s: status is %d, body %s", path, a.status, a.body)
						}
						b.settle()
						all, own := s.take()
						if len(own) != 1 || int(writes.Load()) != len(all) {
							t.Errorf("%s by %s: %d messages for the statements %q", path, caller, writes.Load(), all)
						}
					}
				}
			}
		})
	}
}

// An answer for what is another's must not take other ways than one for what there is not, or how long it takes would tell.
func TestNotFoundTakesTheSameStatements(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	b, s, _ := watch(t, admin.pool)
	id := admin.addRuntime(t, "UTC")
	admin.addUsage(t, id, "UTC", "now()", "p", "m", [4]int64{1, 1, 1, 1})
	admin.drain(t)
	access := func(user string) http.Header {
		return http.Header{"Authorization": {"Bearer " + admin.addAccessToken(t, user)}}
	}
	for _, route := range apiRoutes(t, b.api) {
		for kind, asked := range map[string][]struct {
			header     http.Header
			id, naming string
		}{
			"JWT": {
				{bearer(t, owner), nobody, "workspace_slug=nothing"},
				{bearer(t, stranger), id, "workspace_slug=acme"},
				{bearer(t, outsider), id, "workspace_slug=acme"},
				{bearer(t, nobody), id, "workspace_slug=acme"},
			},
			"access token": {
				{access(owner), nobody, "workspace_slug=nothing"},
				{access(stranger), id, "workspace_slug=acme"},
				{access(outsider), id, "workspace_slug=acme"},
			},
		} {
			var want []string
			for i, q := range asked {
				path := route.path(q.id, q.naming)
				b.doBody(t, route.method, path, q.header, route.body()) // It prepares.
				b.settle()
				s.take()
				a := b.doBody(t, route.method, path, q.header, route.body())
				a.require(t, http.StatusNotFound)
				b.settle()
				_, own := s.take()
				if i == 0 {
					want = own
				}
				if len(own) == 0 || !slices.Equal(own, want) {
					t.Errorf("%s %s by %s: statements are %q, want %q", route.method, path, kind, own, want)
				}
			}
		}
	}
}

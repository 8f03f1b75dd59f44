package httpapi_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"daybook/internal/httpapi"
)

// held are requests that wait for the database.
type held struct {
	b     *bundle
	group sync.WaitGroup
}

// hold sends requests for usage, which all wait once members are locked. Each asks something else, or they would share a statement.
func (h *held) hold(t *testing.T, n int, header http.Header, path string) {
	t.Helper()
	for i := range n {
		h.group.Go(func() {
			if a, err := h.b.send(t.Context(), http.MethodGet, fmt.Sprintf("%s?days=%d", path, i+1), header); err != nil || a.status != http.StatusOK {
				t.Errorf("a request that had begun: status is %d, %v, body %s", a.status, err, a.body)
			}
		})
	}
}

// requireShed checks an answer that turns a request away.
func (a answer) requireShed(t *testing.T, status int, says string) {
	t.Helper()
	a.requireError(t, status, says)
	if got := a.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
	if hasID := strings.Contains(a.body, `"request_id":"`); hasID != (status == http.StatusServiceUnavailable) {
		t.Errorf("body is %s", a.body)
	}
}

// serveFew is an API that answers few requests at once, and gives them time.
func serveFew(t *testing.T, host *bundle, requests int) *bundle {
	t.Helper()
	return serve(t, host.pool, withWritePool(host.pool), func(c *httpapi.Config) { c.MaxRequests, c.Timeout = requests, time.Minute })
}

func TestTooManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	host := setup(t)
	b := serveFew(t, host, 5)
	id := b.addRuntime(t, "UTC")
	path := usagePath(id, "")
	access := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, owner)}}
	for _, user := range []string{owner, admin, member} {
		b.get(t, user, path).require(t, http.StatusOK)
	}
	tx := b.lockMembers(t)
	h := &held{b: b}
	// Three of five are the half of one caller. What comes while they wait is answered while they wait, so it does not wait itself.
	h.hold(t, 3, bearer(t, owner), path)
	awaitBlocked(t, b.pool, 3)
	const yours, all = "too many of your requests are being answered at once", "too many requests are being answered at once"
	for _, route := range apiRoutes(t, b.api) {
		b.doBody(t, route.method, route.path(id, "workspace_slug=acme"), bearer(t, owner), route.body()).
			requireShed(t, http.StatusTooManyRequests, yours)
	}
	// Another caller is not to suffer for it, nor one who is not let in to count.
	for range 10 {
		b.do(t, http.MethodGet, path, nil).require(t, http.StatusUnauthorized)
	}
	h.hold(t, 1, bearer(t, admin), path)
	h.hold(t, 1, access, path)
	awaitBlocked(t, b.pool, 5)
	for _, route := range apiRoutes(t, b.api) {
		b.doBody(t, route.method, route.path(id, "workspace_slug=acme"), bearer(t, member), route.body()).
			requireShed(t, http.StatusServiceUnavailable, all)
	}
	b.get(t, owner, path).requireShed(t, http.StatusServiceUnavailable, all)
	// Those who look after it are let in.
	for _, probe := range []string{"/healthz", "/readyz"} {
		b.get(t, "", probe).require(t, http.StatusOK)
	}
	commit(t, tx)
	h.group.Wait()
	for range 10 {
		for _, user := range []string{owner, admin, member} {
			b.get(t, user, path).require(t, http.StatusOK)
		}
	}
}

// Personal access tokens are found to be made up only by asking the database, so they must not take the places of everybody.
func TestMadeUpTokensDoNotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	b := serveFew(t, setup(t), 8)
	path := usagePath(b.addRuntime(t, "UTC"), "")
	madeUp := func() http.Header { return http.Header{"Authorization": {"Bearer mul_" + rand.Text()}} }
	known := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, admin)}, "X-Request-Id": {"known"}}
	b.do(t, http.MethodGet, path, known).require(t, http.StatusOK)
	awaitLog(t, b, regexp.MustCompile(`msg=request .*request_id=known`)) // What is logged is done, and the token is known.

	tx := b.lockMembers(t)
	const strangers = 2
	var group sync.WaitGroup
	for range strangers {
		header := madeUp()
		group.Go(func() {
			if a, err := b.send(t.Context(), http.MethodGet, path, header); err != nil || a.status != http.StatusUnauthorized {
				t.Errorf("a token that is made up: status is %d, %v, body %s", a.status, err, a.body)
			}
		})
	}
	awaitBlocked(t, b.pool, strangers)
	for range 10 {
		b.do(t, http.MethodGet, path, madeUp()).requireShed(t, http.StatusServiceUnavailable, "too many requests are being answered at once")
	}
	h := &held{b: b}
	h.hold(t, 4, bearer(t, owner), path)
	h.hold(t, 2, known, path)
	awaitBlocked(t, b.pool, strangers+6)
	commit(t, tx)
	group.Wait()
	h.group.Wait()
}

// A place is given back however a request ends.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	b := serveFew(t, setup(t), 1)
	id := b.addRuntime(t, "UTC")
	for range 3 {
		b.get(t, owner, usagePath(id, "")).require(t, http.StatusOK)
		b.get(t, owner, usagePath(id, "days=0")).require(t, http.StatusBadRequest)
		b.get(t, owner, usagePath(nobody, "")).require(t, http.StatusNotFound)
		b.get(t, owner, "/api/nothing").require(t, http.StatusNotFound)
		b.get(t, "", usagePath(id, "")).require(t, http.StatusUnauthorized)
		b.do(t, http.MethodPost, usagePath(id, ""), bearer(t, owner)).require(t, http.StatusMethodNotAllowed)
		b.delete(t, owner, id).require(t, http.StatusConflict)
	}
}

func TestNoOtherOriginsByDefault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := usagePath(b.addRuntime(t, "UTC"), "")
	for method, status := range map[string]int{
		http.MethodGet: http.StatusOK, http.MethodHead: http.StatusOK, http.MethodOptions: http.StatusMethodNotAllowed,
	} {
		header := bearer(t, owner)
		header.Set("Origin", "https://example.com")
		header.Set("Access-Control-Request-Method", "GET")
		a := b.do(t, method, path, header)
		if a.status != status {
			t.Errorf("%s: status is %d, want %d", method, a.status, status)
		}
		requireNoCORS(t, a)
	}
}

func requireNoCORS(t *testing.T, a answer) {
	t.Helper()
	for name := range a.header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("header %s is %q", name, a.header.Values(name))
		}
	}
}

func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	const origin, second = "https://app.example.com", "http://localhost:3000"
	host := setup(t)
	b := serve(t, host.pool, withWritePool(host.pool), func(c *httpapi.Config) { c.CORSOrigins = []string{origin, second} })
	id := b.addUnused(t)
	for _, good := range []string{origin, second} {
		// Before it sends a token, a browser asks whether it may. It sends none then.
		for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
			a := b.preflight(t, "/api/runtimes/"+id, http.Header{
				"Origin": {good}, "Access-Control-Request-Method": {method},
				"Access-Control-Request-Headers": {"authorization,content-type,if-none-match,x-request-id,x-workspace-id,x-workspace-slug"},
			})
			if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != good ||
				a.header.Get("Access-Control-Allow-Methods") != method || a.header.Get("Access-Control-Allow-Credentials") != "true" ||
				a.header.Get("Access-Control-Allow-Headers") == "" {
				t.Errorf("preflight for %s from %s: status is %d, header %v", method, good, a.status, a.header)
			}
		}
		for path, status := range map[string]int{usagePath(id, ""): 200, usagePath(nobody, ""): 404, usagePath(id, "days=0"): 400, "/api/nothing": 404} {
			header := bearer(t, owner)
			header.Set("Origin", good)
			a := b.do(t, http.MethodGet, path, header)
			if a.status != status || a.header.Get("Access-Control-Allow-Origin") != good || a.header.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("%s from %s: status is %d, header %v", path, good, a.status, a.header)
			}
			exposed := a.header.Get("Access-Control-Expose-Headers")
			for _, name := range []string{"Daybook-Source", "Daybook-Timezone", "Daybook-Lag-Seconds", "ETag", "Retry-After"} {
				if !strings.Contains(strings.ToLower(exposed), strings.ToLower(name)) {
					t.Errorf("%s: a page may not read %s, but only %q", path, name, exposed)
				}
			}
			if !strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Origin") {
				t.Errorf("%s: Vary is %q", path, a.header.Values("Vary"))
			}
		}
		// A page must be able to read that it has no token.
		a := b.do(t, http.MethodGet, usagePath(id, ""), http.Header{"Origin": {good}})
		a.require(t, http.StatusUnauthorized)
		if a.header.Get("Access-Control-Allow-Origin") != good {
			t.Errorf("header is %v", a.header)
		}
	}
	for _, bad := range []string{"https://example.com", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil", "null", "*", ""} {
		header := bearer(t, owner)
		header.Set("Origin", bad)
		requireNoCORS(t, b.do(t, http.MethodGet, usagePath(id, ""), header))
		requireNoCORS(t, b.preflight(t, usagePath(id, ""), http.Header{"Origin": {bad}, "Access-Control-Request-Method": {"GET"}}))
	}
	// No method that the API has not.
	requireNoCORS(t, b.preflight(t, usagePath(id, ""), http.Header{"Origin": {origin}, "Access-Control-Request-Method": {"PUT"}}))
}

// preflight asks as a browser does before it sends what a page of another origin wants to send.
func (b *bundle) preflight(t *testing.T, path string, header http.Header) answer {
	t.Helper()
	a, err := sendRaw(t.Context(), http.MethodOptions, b.url+path, header, "")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addRuntime(t, "UTC")
	b.addUsage(t, id, "UTC", "now()", "p", "m", [4]int64{1, 2, 3, 4})
	b.drain(t)
	paths := map[string]http.Header{"/healthz": {}, "/readyz": {}, "/nothing": {}, "/openapi.yaml": {}, usagePath(id, ""): {}}
	for _, route := range apiRoutes(t, b.api) {
		paths[route.path(id, "workspace_slug=acme")] = bearer(t, owner)
		paths[route.path(nobody, "workspace_slug=nothing")] = bearer(t, owner)
		paths[route.path("x", "workspace_id=x")] = bearer(t, owner)
	}
	for path, header := range paths {
		get, head := b.do(t, http.MethodGet, path, header), b.do(t, http.MethodHead, path, header)
		if head.status != get.status || head.body != "" {
			t.Errorf("%s: status is %d, want %d; body %q", path, head.status, get.status, head.body)
		}
		for _, name := range []string{
			"Content-Type", "Content-Length", "ETag", "Cache-Control", "Vary", "Daybook-Source", "Daybook-Timezone", "WWW-Authenticate", "Content-Encoding",
		} {
			if got, want := head.header.Values(name), get.header.Values(name); !slices.Equal(got, want) {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		// Its tag is as good as that of GET.
		if tag := head.header.Get("ETag"); tag != "" {
			conditional := header.Clone()
			conditional.Set("If-None-Match", tag)
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if a := b.do(t, method, path, conditional); a.status != http.StatusNotModified || a.body != "" {
					t.Errorf("%s %s with its tag: status is %d, body %q", method, path, a.status, a.body)
				}
			}
		}
	}
}

func TestRequestLog(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	access := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, member)}}
	const user, workspace = ` user=00000000-0000-4000-8000-00000000000c`, ` workspace=00000000-0000-4000-8000-000000000001`
	for request, test := range map[string]struct {
		method, path string
		header       http.Header
		says         string // after the duration and the id
		route        string
		status       string
	}{
		"get":           {"GET", usagePath(id, "days=7"), bearer(t, member), user + workspace, "/api/runtimes/{runtimeId}/usage", "200"},
		"csv":           {"GET", "/api/usage/daily.csv?workspace_slug=acme", bearer(t, member), user + workspace, "/api/usage/daily.csv", "200"},
		"head":          {"HEAD", usagePath(id, ""), bearer(t, member), user + workspace, "/api/runtimes/{runtimeId}/usage", "200"},
		"object":        {"GET", "/api/runtimes/" + id, bearer(t, member), user + workspace, "/api/runtimes/{runtimeId}", "200"},
		"list":          {"GET", "/api/runtimes?workspace_slug=acme", bearer(t, member), user + workspace, "/api/runtimes", "200"},
		"access":        {"GET", "/api/runtimes?workspace_slug=acme", access, user + workspace, "/api/runtimes", "200"},
		"access-object": {"GET", "/api/runtimes/" + id, access, user + workspace, "/api/runtimes/{runtimeId}", "200"},
		"access-usage":  {"GET", usagePath(id, ""), access, user + workspace, "/api/runtimes/{runtimeId}/usage", "200"},
		"refused":       {"PATCH", "/api/runtimes/" + id, bearer(t, member), user, "/api/runtimes/{runtimeId}", "400"},
		"forbidden":     {"DELETE", "/api/runtimes/" + id, bearer(t, member), user + workspace, "/api/runtimes/{runtimeId}", "403"},
		"not-found":     {"GET", usagePath(nobody, ""), bearer(t, member), user, "/api/runtimes/{runtimeId}/usage", "404"},
		"unauthorized":  {"GET", usagePath(id, ""), nil, "", "/api/*", "401"},
		"health":        {"GET", "/healthz", nil, "", "/healthz", "200"},
	} {
		header := test.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("X-Request-Id", "request-"+request)
		b.do(t, test.method, test.path, header)
		pattern := regexp.MustCompile(`(?m)^time=\S+ level=INFO msg=request method=` + test.method + ` route=` + regexp.QuoteMeta(test.route) +
			` status=` + test.status + ` duration=[0-9.]+[mµn]?s request_id=request-` + request + test.says + `$`)
		// The line is written after the answer is sent.
		awaitLog(t, b, pattern)
	}
	for _, inside := range []string{"mul_", token(t, member)[:20], "days=7"} {
		if strings.Contains(b.logs.String(), inside) {
			t.Errorf("the log says %q", inside)
		}
	}
}

func awaitLog(t *testing.T, b *bundle, pattern *regexp.Regexp) {
	t.Helper()
	for deadline := time.Now().Add(awaitTimeout); !pattern.MatchString(b.logs.String()); {
		if time.Now().After(deadline) {
			t.Fatalf("the log has no line like %s", pattern)
		}
	}
}

// stuckLog takes no line of a request before it is released.
type stuckLog struct {
	slog.Handler
	released chan struct{}
}

// Handle is called by slog.
func (s stuckLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "request" {
		<-s.released
	}
	return s.Handler.Handle(ctx, r)
}

func TestAnswersDoNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addRuntime(t, "UTC")
	released := make(chan struct{})
	defer close(released)
	b = serve(t, b.pool, func(c *httpapi.Config) { c.Logger = slog.New(stuckLog{c.Logger.Handler(), released}) })
	ctx, cancel := context.WithTimeout(t.Context(), awaitTimeout)
	defer cancel()
	header := bearer(t, owner)
	header.Set("Connection", "close") // The next request on the same connection waits.
	for _, path := range []string{"/api/runtimes/" + id, usagePath(id, "days=7"), "/api/usage/summary.csv?workspace_slug=acme"} {
		a, err := b.send(ctx, http.MethodGet, path, header)
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: status is %d, %v", path, a.status, err)
		}
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	for range 3 {
		b.get(t, owner, usagePath(id, "days=7"))
	}
	b.get(t, owner, usagePath(nobody, ""))
	b.do(t, http.MethodHead, usagePath(id, ""), bearer(t, owner))
	b.patch(t, owner, id, `{"visibility":"public"}`)
	b.delete(t, member, id)
	b.get(t, owner, "/api/usage/summary.csv?workspace_slug=acme")
	b.get(t, "", "/healthz")
	for _, path := range []string{"/", "/secret-path", "/api/secret-path", "/api/runtimes/" + id + "/secret-path", "/docs-secret-path", "//secret-path", "/%2fsecret-path"} {
		b.get(t, owner, path)
	}
	for _, method := range []string{"POST", "SECRET-PATH", "OPTIONS", "TRACE"} {
		b.do(t, method, usagePath(id, ""), bearer(t, owner))
	}

	server := httptest.NewServer(b.api.Metrics())
	t.Cleanup(server.Close)
	scrape := func() string {
		a, err := sendRaw(t.Context(), http.MethodGet, server.URL+"/metrics", nil, "")
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("status is %d, %v", a.status, err)
		}
		return a.body
	}
	lines := regexp.MustCompile(`(?m)^daybook_http_requests_total.*$`)
	want := []string{
		`daybook_http_requests_total{method="DELETE",route="/api/runtimes/{runtimeId}",status="403"} 1`,
		`daybook_http_requests_total{method="GET",route="/api/runtimes/{runtimeId}/usage",status="200"} 3`,
		`daybook_http_requests_total{method="GET",route="/api/runtimes/{runtimeId}/usage",status="404"} 1`,
		`daybook_http_requests_total{method="GET",route="/api/usage/summary.csv",status="200"} 1`,
		`daybook_http_requests_total{method="GET",route="/healthz",status="200"} 1`,
		`daybook_http_requests_total{method="GET",route="none",status="404"} 7`,
		`daybook_http_requests_total{method="HEAD",route="/api/runtimes/{runtimeId}/usage",status="200"} 1`,
		`daybook_http_requests_total{method="PATCH",route="/api/runtimes/{runtimeId}",status="200"} 1`,
		`daybook_http_requests_total{method="other",route="none",status="405"} 4`,
	}
	// A request is counted after its answer is sent.
	var got []string
	body := ""
	for deadline := time.Now().Add(awaitTimeout / 3); !slices.Equal(got, want); {
		body = scrape()
		if got = lines.FindAllString(body, -1); time.Now().After(deadline) {
			t.Fatalf("counted are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	for _, path := range []string{"secret", "SECRET", id, nobody} {
		if strings.Contains(body, path) {
			t.Errorf("the metrics name %s", path)
		}
	}
	for _, count := range []string{
		`daybook_http_request_duration_seconds_count{route="/api/runtimes/{runtimeId}/usage"} 5`, `daybook_http_request_duration_seconds_count{route="none"} 11`,
	} {
		if !strings.Contains(body, count) {
			t.Errorf("the metrics lack %s", count)
		}
	}
}

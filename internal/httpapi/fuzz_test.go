package httpapi_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/internal/testlog"
)

// fuzzRuntime has an agent, so that it cannot be deleted.
const fuzzRuntime = "0190163d-8694-739b-aea5-966c26f8ad91"

// fuzzSQL fills a host with a little of everything.
const fuzzSQL = `
	INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone, owner_id)
	VALUES ('` + fuzzRuntime + `', '00000000-0000-4000-8000-000000000001', 'r', 'p', 'Asia/Kathmandu', '` + member + `');
	INSERT INTO public.agent (id, workspace_id, runtime_id)
	VALUES ('` + fuzzRuntime + `', '00000000-0000-4000-8000-000000000001', '` + fuzzRuntime + `');
	INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, status, started_at, completed_at)
	VALUES ('` + fuzzRuntime + `', '` + fuzzRuntime + `', '` + fuzzRuntime + `', 'completed', now() - interval '1 hour', now());
	INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES ('` + fuzzRuntime + `', 'p', '=cmd,"' || E'\r\n', 7);
	INSERT INTO public.personal_access_token (user_id, token_hash)
	VALUES ('` + owner + `', encode(sha256('mul_good'), 'hex')), ('` + stranger + `', encode(sha256('mul_stranger'), 'hex'))`

// Who a request is of, beside whatever its Authorization says.
const (
	asGiven byte = iota
	asOwner
	asMember
	asStranger
	asAccessToken
	asCookie
	fuzzCallers
)

// FuzzRouter sends anything to the real router with a database behind it. Whatever comes, there is no 500, and errors are JSON.
func FuzzRouter(f *testing.F) {
	pool := testdb.New(f)
	for _, sql := range []string{populateSQL, fuzzSQL} {
		if _, err := pool.Exec(f.Context(), sql); err != nil {
			f.Fatal(err)
		}
	}
	tokens, err := httpapi.NewTokens(f.Context(), httpapi.TokenConfig{Secret: []byte(secret)})
	if err != nil {
		f.Fatal(err)
	}
	log := &testlog.Buffer{}
	api, err := httpapi.New(httpapi.Config{
		Pool: pool, WritePool: pool, Tokens: tokens, Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError})),
		Ready: pool.Ping, CORSOrigins: []string{"https://example.com"}, Timeout: time.Minute,
	})
	if err != nil {
		f.Fatal(err)
	}
	signed := make(map[byte]string)
	for who, user := range map[byte]string{asOwner: owner, asMember: member, asStranger: stranger, asCookie: owner} {
		var id pgtype.UUID
		if err := id.Scan(user); err != nil {
			f.Fatal(err)
		}
		if signed[who], err = httpapi.SignToken([]byte(secret), id, "", "", 24*time.Hour); err != nil {
			f.Fatal(err)
		}
	}
	addSeeds(f)

	f.Fuzz(func(t *testing.T, who byte, method, path, query, authorization, accept, slug, id, more, body string) {
		var raw strings.Builder
		target := path
		if query != "" {
			target += "?" + query
		}
		fmt.Fprintf(&raw, "%s %s HTTP/1.1\r\nHost: daybook\r\nContent-Length: %d\r\n", method, target, len(body))
		switch who % fuzzCallers {
		case asGiven:
		case asCookie:
			authorization = ""
			fmt.Fprintf(&raw, "Cookie: multica_auth=%s\r\n", signed[asCookie])
		case asAccessToken:
			authorization = "Bearer mul_good"
		default:
			authorization = "Bearer " + signed[who%fuzzCallers]
		}
		for name, value := range map[string]string{
			"Authorization": authorization, "Accept": accept, "X-Workspace-Slug": slug, "X-Workspace-ID": id,
		} {
			if value != "" {
				fmt.Fprintf(&raw, "%s: %s\r\n", name, value)
			}
		}
		if more != "" {
			raw.WriteString(more + "\r\n")
		}
		raw.WriteString("\r\n" + body)
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw.String())))
		if err != nil {
			return // The server does not hand such a request on.
		}
		recorder := httptest.NewRecorder()
		api.ServeHTTP(recorder, request.WithContext(t.Context()))
		checkFuzzed(t, request.URL.Path, recorder.Result())
		if t.Failed() {
			t.Logf("the request is\n%s\nthe log of the api\n%s", raw.String(), log)
		}
	})
}

// checkFuzzed checks what holds for every answer.
func checkFuzzed(t *testing.T, path string, response *http.Response) {
	t.Helper()
	defer response.Body.Close()
	reader := io.Reader(response.Body)
	switch response.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		var err error
		if reader, err = gzip.NewReader(response.Body); err != nil {
			t.Fatalf("the body is not what its encoding says: %v", err)
		}
	default:
		return // Another test reads it.
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode >= http.StatusInternalServerError {
		t.Errorf("status is %d, body %s", response.StatusCode, body)
	}
	contentType := response.Header.Get("Content-Type")
	if strings.HasPrefix(path, "/docs/") {
		return // TestErrorsOfTheDocsAreJSON looks at these.
	}
	if response.StatusCode >= http.StatusBadRequest {
		var object map[string]string
		if err := json.Unmarshal(body, &object); err != nil || object["error"] == "" || contentType != "application/json; charset=utf-8" {
			t.Errorf("status is %d, Content-Type %q, %v, body %s", response.StatusCode, contentType, err, body)
		}
	} else if strings.HasPrefix(contentType, "application/json") && !json.Valid(body) {
		t.Errorf("status is %d, the body is not JSON: %s", response.StatusCode, body)
	}
	if response.StatusCode == http.StatusUnauthorized && response.Header.Get("WWW-Authenticate") == "" {
		t.Error("a 401 without WWW-Authenticate")
	}
}

// addSeeds adds requests of every kind, from which fuzzing goes on. It begins by running all of them, so there is one of each and not
// every combination.
func addSeeds(f *testing.F) {
	f.Helper()
	paths := []string{"/", "/healthz", "/readyz", "/openapi.yaml", "/docs", "/docs/", "/api", "/api/", "/api/nothing", "*", "http://daybook/healthz"}
	for _, pattern := range readPatterns {
		paths = append(paths, strings.ReplaceAll(pattern, "{runtimeId}", fuzzRuntime), strings.ReplaceAll(pattern, "{runtimeId}", fuzzRuntime)+".csv")
	}
	usage, daily := "/api/runtimes/"+fuzzRuntime+"/usage", "/api/usage/daily"
	const acme = "workspace_slug=acme"
	add := func(who byte, method, path, query, body string) {
		f.Add(who, method, path, query, "", "", "", "", "", body)
	}
	for i, path := range paths {
		add(asMember, "GET", path, acme, "")
		add([]byte{asGiven, asStranger, asAccessToken, asCookie}[i%4], "GET", path, acme, "")
	}
	for _, path := range []string{"/healthz", "/api/nothing", "/api/runtimes/" + fuzzRuntime, usage} {
		for _, method := range []string{"HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT", "TRACE", "CONNECT", "ODD", "get"} {
			add(asOwner, method, path, acme, `{"visibility":"public"}`)
		}
	}
	for _, path := range []string{
		"/api/runtimes/x/usage", "/api/runtimes//usage", "/api/runtimes/" + strings.ToUpper(fuzzRuntime) + "/usage", "/api/runtimes/{" + fuzzRuntime + "}/usage",
		"/api/runtimes/" + strings.ReplaceAll(fuzzRuntime, "-", "") + "/usage", "/api/runtimes/" + fuzzRuntime + "%00/usage", "/api/runtimes/%00/usage",
		"/api/runtimes/" + fuzzRuntime[:35] + "/usage", "/api/runtimes/" + fuzzRuntime + "0/usage", "/api/runtimes/%ff%fe/usage", "/api/runtimes/\xff/usage",
		"/api/runtimes/" + strings.Repeat("a", 5000) + "/usage", "/api/runtimes/..%2f..%2f/usage", "/api/runtimes/../usage", "/api/../healthz", "//healthz",
		"/api/runtimes/" + fuzzRuntime + "/usage/", "/api/runtimes/" + fuzzRuntime + "/usage.csv.csv", "/api/runtimes/" + fuzzRuntime + ".csv",
		"/api/runtimes/" + fuzzRuntime + "/usag%65", "/api/runtimes%2f" + fuzzRuntime, "/api/usage/daily%2ecsv", "/api/usage/daily.csv/", "/.csv", "/api/.csv",
		"/api/runtimes/ffffffff-ffff-ffff-ffff-ffffffffffff/usage", "/api/runtimes/00000000-0000-0000-0000-000000000000", "/%", "/%zz", "/\x00",
	} {
		add(asOwner, "GET", path, acme, "")
	}
	for _, path := range []string{"/api/runtimes/x", "/api/runtimes/%00", "/api/runtimes/ffffffff-ffff-ffff-ffff-ffffffffffff"} {
		for _, method := range []string{"GET", "PATCH", "DELETE", "HEAD"} {
			add(asOwner, method, path, acme, `{"timezone":"UTC"}`)
		}
	}
	queried := []string{usage, usage + "/by-agent", usage + "/by-hour.csv", daily, "/api/dashboard/usage/daily", "/api/dashboard/agent-runtime.csv", "/api/runtimes"}
	for i, query := range []string{
		"", "days=1", "days=365", "days=0", "days=366", "days=-1", "days=", "days", "days=1&days=2", "days=99999999999999999999", "days=2147483648", "days=1e2",
		"days=+7", "days=7.0", "days=%37", "days=٧", "days=%00", "days=%ff", "days=0x10", "days=1_0", "DAYS=7", "days[]=7", "days=7;days=8", "days=%zz", "%", "&&&", "=",
		"project_id=" + fuzzRuntime, "project_id=", "project_id=x", "project_id=" + fuzzRuntime + "&project_id=" + fuzzRuntime, "project_id=%00",
		"owner=me", "owner=you", "owner=", "owner=me&owner=me", strings.Repeat("a=b&", 500),
	} {
		for _, at := range []int{i, i + 3} {
			add(asMember, "GET", queried[at%len(queried)], acme+"&"+query, "")
		}
	}
	for _, query := range []string{
		"workspace_slug=other", "workspace_slug=", "workspace_slug", "workspace_slug=%00", "workspace_slug=acme%00", "workspace_slug=%ff", "workspace_slug=%ed%a0%80",
		"workspace_slug=acme&workspace_slug=acme", "workspace_slug=" + strings.Repeat("x", 9000), "workspace_slug=%25", "workspace_slug='%20OR%20true--",
		"workspace_id=00000000-0000-4000-8000-000000000001", "workspace_id=x", "workspace_id=", "workspace_id=%00", "workspace_id=1&workspace_id=2",
	} {
		add(asMember, "GET", daily, query, "")
	}
	for _, authorization := range []string{
		"Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer eyJhbGciOiJIUzI1NiJ9.e30.AA", "Basic b3duZXI6", "bearer mul_good",
		"Bearer mul_", "Bearer mul_stranger", "Bearer mul_\xff", "Bearer mul_\x00", "Bearer mul_" + strings.Repeat("x", 9000), "Bearer mul_good mul_good", "mul_good",
		"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJleHAiOjF9.AA",
	} {
		f.Add(asGiven, "GET", usage, "", authorization, "", "", "", "", "")
	}
	for _, accept := range []string{
		"text/csv", "text/csv;q=0", "text/csv;q=x", "text/csv;q=NaN", "text/csv;q=-1", "text/csv, */*", "*/*", "application/*;q=0.1, text/csv;q=0.1", ",", ";", "text/csv;",
		"text/csv; charset", "text/csv;q=1e400", "image/png", "\xff", strings.Repeat("text/csv,", 900),
	} {
		f.Add(asMember, "GET", usage, "", "", accept, "", "", "", "")
	}
	for _, name := range []string{"acme", "other", "", "\xff", "acme\x00", "ACME", strings.Repeat("x", 9000), "00000000-0000-4000-8000-000000000001"} {
		f.Add(asMember, "GET", daily, "", "", "", name, "", "", "")
		f.Add(asMember, "GET", daily, "", "", "", "", name, "", "")
		f.Add(asMember, "GET", daily, "", "", "", name, name, "", "")
	}
	for i, more := range []string{
		"If-None-Match: *", "If-None-Match: W/\"x\"", "If-None-Match: \"", "If-None-Match: ,,,", "Accept-Encoding: gzip", "Accept-Encoding: gzip;q=0", "Accept-Encoding: zstd, br",
		"Origin: https://example.com", "Origin: https://example.com\r\nAccess-Control-Request-Method: PATCH", "Range: bytes=0-1", "Range: bytes=9-1", "If-Range: x",
		"Cookie: multica_auth=x", "Cookie: multica_auth=mul_good", "Cookie: multica_auth=\"\"; multica_auth=;;=", "X-Request-Id: \x7f", "X-Request-Id: " + strings.Repeat("x", 99),
		"X-Workspace-Slug: other\r\nX-Workspace-Slug: acme", "Transfer-Encoding: chunked", "Expect: 100-continue", "Authorization: Bearer x", "If-Modified-Since: x",
	} {
		f.Add(asMember, "GET", usage, "", "", "", "", "", more, "")
		f.Add(asMember, []string{"HEAD", "OPTIONS", "GET"}[i%3], []string{usage + ".csv", "/api/runtimes", "/openapi.yaml", "/docs"}[i%4], acme, "", "", "", "", more, "")
	}
	for i, body := range []string{
		``, ` `, `null`, `{}`, `[]`, `""`, `0`, `{"timezone":"Europe/Berlin","visibility":"private"}`, `{"timezone":""}`, `{"timezone":null}`, `{"timezone":1}`, `{"timezone":"Local"}`,
		`{"timezone":"X-100"}`, `{"timezone":"../etc/passwd"}`, `{"timezone":"\u0000"}`, `{"timezone":"\ud800"}`, `{"timezone":"Europe/Berlin\u0000"}`, `{"timezone":"posix/UTC"}`,
		`{"visibility":"x"}`, `{"visibility":{}}`, `{"x":1}`, `{"timezone":"UTC"}{}`, `{"timezone":"UTC"`, "\xff", "\x00", `{"timezone":"` + strings.Repeat("x", 17000) + `"}`,
		`{"timezone":"UTC"}` + strings.Repeat(" ", 17000), strings.Repeat("[", 9000), `{"TimeZone":"UTC","timezone":"Asia/Tokyo"}`,
	} {
		add(asOwner, "PATCH", "/api/runtimes/"+fuzzRuntime, "", body)
		add([]byte{asMember, asStranger, asAccessToken, asCookie}[i%4], "PATCH", "/api/runtimes/"+fuzzRuntime, "", body)
	}
}

// An error of the documentation is an error like any other.
func TestErrorsOfTheDocsAreJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, header := range map[string]http.Header{
		"/docs/nothing": {}, "/docs/../x": {}, "/docs/x/": {}, "/docs/%00": {}, "/docs/swagger-ui.css": {"Range": {"bytes=9999999999-"}},
	} {
		a := b.do(t, http.MethodGet, path, header)
		if a.status < http.StatusBadRequest {
			continue
		}
		var object map[string]string
		if err := json.Unmarshal([]byte(a.body), &object); err != nil || object["error"] == "" {
			t.Errorf("%s: status is %d, Content-Type %q, body %.200q", path, a.status, a.header.Get("Content-Type"), a.body)
		}
	}
}

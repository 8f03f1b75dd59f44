package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/internal/testlog"
	"daybook/migrations"
	"daybook/rollup"
)

var update = flag.Bool("update", false, "write the golden files")

const secret = "a secret of the tests, 32 bytes or more"

// The people of every test. Owner, admin and member belong to the workspace acme, stranger to another one, outsider to none.
const (
	owner    = "00000000-0000-4000-8000-00000000000a"
	admin    = "00000000-0000-4000-8000-00000000000b"
	member   = "00000000-0000-4000-8000-00000000000c"
	stranger = "00000000-0000-4000-8000-00000000000d"
	outsider = "00000000-0000-4000-8000-00000000000e"
)

const populateSQL = `
	INSERT INTO public.workspace (id, slug) VALUES
		('00000000-0000-4000-8000-000000000001', 'acme'), ('00000000-0000-4000-8000-000000000002', 'other');
	INSERT INTO public."user" (id, email)
	SELECT ('00000000-0000-4000-8000-00000000000' || c)::uuid, c FROM unnest('{a,b,c,d,e}'::text[]) c;
	INSERT INTO public.member (workspace_id, user_id, role) VALUES
		('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000a', 'owner'),
		('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000b', 'admin'),
		('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-00000000000c', 'member'),
		('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-00000000000d', 'owner')`

// bundle is a host with Daybook in it, and the API before it.
type bundle struct {
	pool *pgxpool.Pool
	api  *httpapi.API
	url  string
	logs *testlog.Buffer
}

func setup(t *testing.T) *bundle {
	t.Helper()
	pool := testdb.New(t)
	exec(t, pool, populateSQL)
	return serve(t, pool)
}

// serve puts the API before a pool. Configure may change its configuration.
func serve(t *testing.T, pool *pgxpool.Pool, configure ...func(*httpapi.Config)) *bundle {
	t.Helper()
	logs := &testlog.Buffer{}
	config := httpapi.Config{
		Pool: pool, Tokens: newTokens(t), Logger: slog.New(slog.NewTextHandler(logs, nil)),
		Ready: func(ctx context.Context) error { return migrations.CheckCurrent(ctx, pool) },
	}
	for _, c := range configure {
		c(&config)
	}
	api, err := httpapi.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the api:\n%s", logs)
		}
	})
	return &bundle{pool: pool, api: api, url: server.URL, logs: logs}
}

// newTokens takes what token makes. Configure may change its configuration.
func newTokens(t *testing.T, configure ...func(*httpapi.TokenConfig)) *httpapi.Tokens {
	t.Helper()
	config := httpapi.TokenConfig{Secret: []byte(secret), Leeway: httpapi.DefaultLeeway, Logger: slog.New(slog.DiscardHandler)}
	for _, c := range configure {
		c(&config)
	}
	tokens, err := httpapi.NewTokens(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// addRuntime adds a runtime of acme, with an agent, and returns its id.
func (b *bundle) addRuntime(t *testing.T, zone string) string {
	t.Helper()
	id := query[string](t, b.pool, `
		INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone)
		VALUES ('00000000-0000-4000-8000-000000000001', 'r', 'p', $1) RETURNING id::text`, zone)
	exec(t, b.pool, `
		INSERT INTO public.agent (workspace_id, runtime_id) VALUES ('00000000-0000-4000-8000-000000000001', $1)`, id)
	return id
}

// addUsage adds a task of the runtime with one row of usage. At is SQL for a timestamptz; z in it is the zone.
func (b *bundle) addUsage(t *testing.T, runtime, zone, at, provider, model string, tokens [4]int64) {
	t.Helper()
	exec(t, b.pool, `
		WITH at AS (SELECT `+at+` AS at FROM (SELECT $2::text) zone (z)),
		task AS (
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at, completed_at)
			SELECT a.id, a.runtime_id, 'completed', at, at FROM public.agent a, at WHERE a.runtime_id = $1
			RETURNING id
		)
		INSERT INTO public.task_usage
			(task_id, provider, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
		SELECT id, $3, $4, $5, $6, $7, $8, at FROM task, at`,
		runtime, zone, provider, model, tokens[0], tokens[1], tokens[2], tokens[3])
}

// setZone changes a runtime's zone as the host does.
func (b *bundle) setZone(t *testing.T, runtime, zone string) {
	t.Helper()
	exec(t, b.pool, `UPDATE public.agent_runtime SET timezone = $2 WHERE id = $1`, runtime, zone)
}

// drain counts all that is queued.
func (b *bundle) drain(t *testing.T) {
	t.Helper()
	for shard := range int16(16) {
		if _, err := rollup.Drain(t.Context(), b.pool, []int16{shard}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := query[int](t, b.pool, `SELECT count(*)::int FROM daybook.task_usage_daily_dirty`); n != 0 {
		t.Fatalf("%d entries are left after a drain", n)
	}
}

func (b *bundle) rebuild(t *testing.T, db rollup.DB, runtime string) {
	t.Helper()
	result, err := rollup.Rebuild(t.Context(), db, uuid(t, runtime))
	if err != nil || result.Busy {
		t.Fatalf("rebuild: %+v, %v", result, err)
	}
}

func uuid(t *testing.T, s string) pgtype.UUID {
	t.Helper()
	id, err := httpapi.ParseUUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// usageRow is a row of the answer, written down here again so that a changed name or order shows.
type usageRow struct {
	RuntimeID        string `json:"runtime_id"`
	Date             string `json:"date"`
	Provider         string `json:"provider"`
	Model            string `json:"model"`
	InputTokens      int64  `json:"input_tokens"`
	OutputTokens     int64  `json:"output_tokens"`
	CacheReadTokens  int64  `json:"cache_read_tokens"`
	CacheWriteTokens int64  `json:"cache_write_tokens"`
}

// plainUsage is what the answer must be, as a body: the plain GROUP BY on the host's tables.
func (b *bundle) plainUsage(t *testing.T, runtime, zone string, days int) string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `
		SELECT t.runtime_id::text, (u.created_at AT TIME ZONE $2)::date::text, u.provider, u.model,
			sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint,
			sum(u.cache_read_tokens)::bigint, sum(u.cache_write_tokens)::bigint
		FROM public.task_usage u
		JOIN public.agent_task_queue t ON t.id = u.task_id
		WHERE t.runtime_id = $1 AND (u.created_at AT TIME ZONE $2)::date >= (now() AT TIME ZONE $2)::date - $3::integer
		GROUP BY 1, (u.created_at AT TIME ZONE $2)::date, 3, 4
		ORDER BY (u.created_at AT TIME ZONE $2)::date DESC, 3, 4`, runtime, zone, days)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[usageRow])
	if err != nil {
		t.Fatal(err)
	}
	if list == nil {
		list = []usageRow{}
	}
	body, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(body) + "\n"
}

// onOneDay calls f, which compares answers that it got at different moments and returns how they differ, again if midnight
// in the zone came in between.
func (b *bundle) onOneDay(t *testing.T, zone string, f func() string) {
	t.Helper()
	for {
		today := query[string](t, b.pool, `SELECT (now() AT TIME ZONE $1)::date::text`, zone)
		difference := f()
		if today != query[string](t, b.pool, `SELECT (now() AT TIME ZONE $1)::date::text`, zone) {
			continue
		}
		if difference != "" {
			t.Error(difference)
		}
		return
	}
}

// answer is what a client sees.
type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// get asks as a user, whose id may be empty.
func (b *bundle) get(t *testing.T, user, path string) answer {
	t.Helper()
	header := http.Header{}
	if user != "" {
		header.Set("Authorization", "Bearer "+token(t, user))
	}
	return b.do(t, http.MethodGet, path, header)
}

func (b *bundle) do(t *testing.T, method, path string, header http.Header) answer {
	t.Helper()
	return b.doBody(t, method, path, header, "")
}

func (b *bundle) doBody(t *testing.T, method, path string, header http.Header, body string) answer {
	t.Helper()
	a, err := b.sendBody(t.Context(), method, path, header, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// send is do for other goroutines than the test's.
func (b *bundle) send(ctx context.Context, method, path string, header http.Header) (answer, error) {
	return b.sendBody(ctx, method, path, header, "")
}

// sendBody is send with a body. An answer that is not as openapi.yaml says is an error.
func (b *bundle) sendBody(ctx context.Context, method, path string, header http.Header, body string) (answer, error) {
	a, err := sendRaw(ctx, method, b.url+path, header, body)
	// Preflights are CORS's and metrics Prometheus's, whatever server they are asked of.
	if err == nil && method != http.MethodOptions && path != "/metrics" {
		err = checkDescribed(method, path, header, a.status, a.header, a.body)
	}
	return a, err
}

// sendRaw is for what openapi.yaml says nothing about.
func sendRaw(ctx context.Context, method, url string, header http.Header, body string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	request.Header = header.Clone()
	start := time.Now()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(got), time.Since(start)}, err
}

// usagePatterns are the usage endpoints, readPatterns all that read.
var (
	usagePatterns = []string{
		"/api/runtimes/{runtimeId}/usage", "/api/runtimes/{runtimeId}/usage/by-agent", "/api/runtimes/{runtimeId}/usage/by-hour",
		"/api/runtimes/{runtimeId}/activity", "/api/usage/daily", "/api/usage/summary", "/api/dashboard/usage/daily",
		"/api/dashboard/usage/by-agent", "/api/dashboard/agent-runtime", "/api/dashboard/runtime/daily",
	}
	readPatterns = append([]string{"/api/runtimes", "/api/runtimes/{runtimeId}"}, usagePatterns...)
)

// pathOf is the path of a pattern, for a runtime or for the workspace acme.
func pathOf(pattern, runtime string) string {
	if strings.Contains(pattern, "{runtimeId}") {
		return strings.ReplaceAll(pattern, "{runtimeId}", runtime)
	}
	return pattern + "?workspace_slug=acme"
}

func usagePath(runtime, query string) string {
	path := "/api/runtimes/" + runtime + "/usage"
	if query != "" {
		path += "?" + query
	}
	return path
}

func token(t *testing.T, user string) string {
	t.Helper()
	signed, err := httpapi.SignToken([]byte(secret), uuid(t, user), "", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (a answer) require(t *testing.T, status int) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status is %d, want %d; body: %s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
}

// requireGolden compares a JSON body with testdata/name.json, in which it is indented.
func (a answer) requireGolden(t *testing.T, name string) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(a.body), "", "  "); err != nil {
		t.Fatalf("%v: %q", err, a.body)
	}
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if got.String() != string(want) {
		t.Errorf("body is\n%s\nwant, as in %s,\n%s", got.String(), file, want)
	}
}

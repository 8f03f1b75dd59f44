package httpapi_test

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/httpapi"
	"daybook/internal/testdb"
	"daybook/migrations"
	"daybook/rollup"
)

var (
	//go:embed testdata/oracle.sql
	oracleSQL string
	//go:embed testdata/edges.sql
	edgesSQL string
	//go:embed testdata/stir.sql
	stirSQL string
)

// windows are the days that are asked for, beside the default.
var windows = []int{1, 7, 30, 90, 180, 365}

// question is one question about usage.
type question struct {
	pattern string // of usagePatterns
	owner   string // the id of the runtime or of the workspace
	project string // empty for all
	days    int    // 0 for the default
}

// about is a question about a runtime or a workspace, whichever the pattern is for.
func about(pattern, runtime, workspace string) question {
	if isOfRuntime(pattern) {
		return question{pattern: pattern, owner: runtime}
	}
	return question{pattern: pattern, owner: workspace}
}

func isOfRuntime(pattern string) bool { return strings.Contains(pattern, "{runtimeId}") }

func hasDays(pattern string) bool { return !strings.HasSuffix(pattern, "/activity") }

func hasProject(pattern string) bool { return strings.HasPrefix(pattern, "/api/dashboard/") }

// path is the path to ask, with a suffix as .csv.
func (q question) path(suffix string) string {
	query := url.Values{}
	path := strings.ReplaceAll(q.pattern, "{runtimeId}", q.owner) + suffix
	if !isOfRuntime(q.pattern) {
		query.Set("workspace_id", q.owner)
	}
	if q.project != "" {
		query.Set("project_id", q.project)
	}
	if q.days > 0 {
		query.Set("days", strconv.Itoa(q.days))
	}
	return path + "?" + query.Encode()
}

// window is the number of days that count if the question names none.
func (q question) window() int {
	switch {
	case !hasDays(q.pattern) || q.days > 0:
		return q.days
	case strings.HasSuffix(q.pattern, "{runtimeId}/usage"):
		return 90
	default:
		return 30
	}
}

// fleet is what can be asked about.
type fleet struct {
	runtimes, workspaces, projects []string
	zones                          map[string]string // of runtimes: the zone that counts, which is UTC for one that Postgres does not know
	used                           map[string]bool   // runtimes with something that any rollup counts
}

func (b *bundle) survey(t *testing.T) fleet {
	t.Helper()
	ids := func(table string) []string {
		return query[[]string](t, b.pool, `SELECT coalesce(array_agg(id::text ORDER BY id), '{}') FROM public.`+table)
	}
	f := fleet{
		runtimes: ids("agent_runtime"), workspaces: ids("workspace"), projects: ids("project"),
		zones: make(map[string]string), used: make(map[string]bool),
	}
	for _, runtime := range f.runtimes {
		zone := query[string](t, b.pool, `SELECT timezone FROM public.agent_runtime WHERE id = $1`, runtime)
		_, err := b.pool.Exec(t.Context(), `SELECT now() AT TIME ZONE $1`, zone)
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "22023" {
			zone = "UTC"
		} else if err != nil {
			t.Fatal(err)
		}
		f.zones[runtime] = zone
		f.used[runtime] = query[bool](t, b.pool, `SELECT EXISTS (
			SELECT FROM public.agent_task_queue t WHERE runtime_id = $1 AND (started_at IS NOT NULL
				OR EXISTS (SELECT FROM public.task_usage u WHERE u.task_id = t.id)))`, runtime)
	}
	return f
}

// questions are all that can be asked about the fleet, for the default window and others.
func (f fleet) questions(windows ...int) []question {
	var list []question
	for _, pattern := range usagePatterns {
		owners, projects := f.workspaces, []string{""}
		if isOfRuntime(pattern) {
			owners = f.runtimes
		}
		if hasProject(pattern) {
			projects = append(projects, f.projects...)
		}
		days := append([]int{0}, windows...)
		if !hasDays(pattern) {
			days = days[:1]
		}
		for _, owner := range owners {
			for _, project := range projects {
				for _, n := range days {
					list = append(list, question{pattern, owner, project, n})
				}
			}
		}
	}
	return list
}

// oracle knows the bodies of all answers but the empty ones.
type oracle map[question][]byte

func (o oracle) body(q question) string {
	q.days = q.window()
	if rows, ok := o[q]; ok {
		return "[" + string(rows) + "]\n"
	}
	return "[]\n"
}

// askOracle works out the answers to the questions from the host's tables alone.
func (b *bundle) askOracle(t *testing.T, f fleet, questions []question) oracle {
	t.Helper()
	var days []int
	var patterns []string
	for _, q := range questions {
		days, patterns = append(days, q.window()), append(patterns, q.pattern)
	}
	slices.Sort(days)
	days = slices.Compact(days)
	args := pgx.NamedArgs{"runtimes": f.runtimes, "workspaces": f.workspaces, "projects": f.projects, "days": days}
	zones := make([]string, len(f.runtimes))
	for i, runtime := range f.runtimes {
		zones[i] = f.zones[runtime]
	}
	args["zones"] = zones
	o := make(oracle)
	blocks := strings.Split(oracleSQL, "-- endpoint: ")[1:]
	if len(blocks) != len(usagePatterns) {
		t.Fatalf("the oracle knows %d endpoints", len(blocks))
	}
	for _, block := range blocks {
		pattern, sql, _ := strings.Cut(block, "\n")
		if !slices.Contains(patterns, pattern) {
			continue
		}
		rows, err := b.pool.Query(t.Context(), sql, args)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			q := question{pattern, values[0].(string), values[2].(string), int(values[1].(int32))}
			body := o[q]
			separator := "{"
			if len(body) > 0 {
				separator = ",{"
			}
			for i, value := range values[3:] {
				encoded, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				body = fmt.Appendf(body, "%s%q:%s", separator, rows.FieldDescriptions()[3+i].Name, encoded)
				separator = ","
			}
			o[q] = append(body, '}')
		}
		if rows.Err() != nil {
			t.Fatalf("%s: %v", pattern, rows.Err())
		}
	}
	return o
}

// onSameDays is onOneDay for several zones.
func (b *bundle) onSameDays(t *testing.T, zones []string, f func() string) {
	t.Helper()
	days := func() string {
		return query[string](t, b.pool,
			`SELECT string_agg((now() AT TIME ZONE z)::date::text, ' ') FROM unnest(array_append($1::text[], 'UTC')) z`, zones)
	}
	for {
		before := days()
		difference := f()
		if before != days() {
			continue
		}
		if difference != "" {
			t.Error(difference)
		}
		return
	}
}

// call asks without a socket, and checks that the answer is as openapi.yaml says.
func (b *bundle) call(t *testing.T, path string, header http.Header) answer {
	t.Helper()
	a := b.record(t, path, header)
	if a.header.Get("Content-Encoding") == "" {
		describe(t, http.MethodGet, path, header, a.status, a.header, a.body)
	}
	return a
}

// record is call without the check, which takes longer than the answer.
func (b *bundle) record(t *testing.T, path string, header http.Header) answer {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	request.Header = header
	recorded := httptest.NewRecorder()
	b.api.ServeHTTP(recorded, request)
	return answer{status: recorded.Code, header: recorded.Result().Header, body: recorded.Body.String()}
}

// headerOf is the header of a request of a user, with more of it: name, value, and so on.
func headerOf(t *testing.T, user string, more ...string) http.Header {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + token(t, user)}}
	for i := 0; i < len(more); i += 2 {
		header.Add(more[i], more[i+1])
	}
	return header
}

// fromSource puts another API before the same host, which reads the host's tables.
func (b *bundle) fromSource(t *testing.T) *bundle {
	t.Helper()
	return serve(t, b.pool, func(c *httpapi.Config) { c.Source = httpapi.SourceHost }, quietly)
}

// quietly keeps thousands of requests out of the log.
func quietly(c *httpapi.Config) { c.Logger = slog.New(slog.DiscardHandler) }

// side is an API and what it must say of where it reads.
type side struct {
	*bundle
	ofRuntimes, ofWorkspaces string
}

// sides are an API whose answers about runtimes come from source, and one that reads the host's tables.
func (b *bundle) sides(t *testing.T, source string) []side {
	t.Helper()
	return []side{{serve(t, b.pool, quietly), source, "rollup"}, {b.fromSource(t), "source", "source"}}
}

// requireEqual asks the questions of every side and fails unless all answers are what the oracle says.
func (b *bundle) requireEqual(t *testing.T, user string, f fleet, questions []question, sides []side) {
	t.Helper()
	zones := make([]string, 0, len(f.zones))
	for _, zone := range f.zones {
		zones = append(zones, zone)
	}
	b.onSameDays(t, zones, func() string { return b.differences(t, user, f, questions, sides) })
}

// differences says how answers differ from what they must be.
func (b *bundle) differences(t *testing.T, user string, f fleet, questions []question, sides []side) string {
	t.Helper()
	const shown = 3
	header := headerOf(t, user)
	o := b.askOracle(t, f, questions)
	var found []string
	for _, q := range questions {
		zone, want := "UTC", o.body(q)
		if isOfRuntime(q.pattern) {
			zone = f.zones[q.owner]
		}
		for _, s := range sides {
			source := s.ofWorkspaces
			if isOfRuntime(q.pattern) {
				source = s.ofRuntimes
			}
			ask := s.record
			if q.days == 0 {
				ask = s.call
			}
			a := ask(t, q.path(""), header)
			a.require(t, http.StatusOK)
			if a.body != want {
				found = append(found, fmt.Sprintf("%s from %s:\n%swant\n%s", q.path(""), source, a.body, want))
			}
			if got := a.header.Get("Daybook-Source"); got != source && (f.used[q.owner] || !isOfRuntime(q.pattern)) {
				found = append(found, fmt.Sprintf("%s: Daybook-Source is %q, want %q", q.path(""), got, source))
			}
			if got := a.header.Get("Daybook-Timezone"); got != zone {
				found = append(found, fmt.Sprintf("%s: Daybook-Timezone is %q, want %q", q.path(""), got, zone))
			}
		}
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf("%d differences, as\n%s", len(found), strings.Join(found[:min(shown, len(found))], "\n"))
}

// requireEqualAnswers compares all answers about a small host, from everywhere that answers come from. Afterwards runtimes that were not in UTC
// are, and those that were are in another zone: the one before, if there was one.
func (b *bundle) requireEqualAnswers(t *testing.T) {
	t.Helper()
	b.countAll(t)
	f := b.survey(t)
	f.workspaces = f.workspaces[:1] // acme
	b.requireEqual(t, owner, f, f.questions(1, 7), b.sides(t, "rollup"))
	exec(t, b.pool, `UPDATE public.agent_runtime SET name = timezone, timezone = CASE WHEN timezone <> 'UTC' THEN 'UTC' WHEN name = 'r' THEN 'Asia/Kathmandu' ELSE name END`)
	f.zones = b.survey(t).zones
	b.requireEqual(t, owner, f, f.questions(1, 7), []side{{b, "live", "rollup"}})
}

func (b *bundle) requireBody(t *testing.T, path, want string) {
	t.Helper()
	if a := b.call(t, path, headerOf(t, owner)); a.body != want {
		t.Errorf("%s: body is\n%swant\n%s", path, a.body, want)
	}
}

// countAll does all that workers have to do.
func (b *bundle) countAll(t *testing.T) {
	t.Helper()
	for {
		if _, err := rollup.ExpandScopes(t.Context(), b.pool); err != nil {
			t.Fatal(err)
		}
		b.drain(t)
		runtimes := query[[]string](t, b.pool, `SELECT coalesce(array_agg(DISTINCT runtime_id::text), '{}') FROM daybook.runtime_rebuild`)
		if len(runtimes) == 0 {
			return
		}
		for _, runtime := range runtimes {
			b.rebuild(t, b.pool, runtime)
		}
	}
}

// jsonRows are the names and the values of an answer in JSON, in order. There are no names if there are no rows.
func jsonRows(t *testing.T, body string) (names []string, rows [][]string) {
	t.Helper()
	var objects []json.RawMessage
	if err := json.Unmarshal([]byte(body), &objects); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	for _, object := range objects {
		decoder := json.NewDecoder(strings.NewReader(string(object)))
		decoder.UseNumber()
		names = nil
		var row []string
		for name := true; ; {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			if _, brace := token.(json.Delim); brace {
				continue
			}
			if name {
				names = append(names, fmt.Sprint(token))
			} else {
				row = append(row, fmt.Sprint(token))
			}
			name = !name
		}
		rows = append(rows, row)
	}
	return names, rows
}

// csvRows are the records of an answer in CSV, read as RFC 4180 says. The reader of the standard library would change line breaks
// in fields.
func csvRows(t *testing.T, body string) (records [][]string) {
	t.Helper()
	for body != "" {
		var record []string
		for more := true; more; body, more = strings.CutPrefix(body, ",") {
			var field string
			if quoted, ok := strings.CutPrefix(body, `"`); ok {
				end := 0
				for ; end < len(quoted) && (quoted[end] != '"' || strings.HasPrefix(quoted[end:], `""`)); end++ {
					if quoted[end] == '"' {
						end++
					}
				}
				if end == len(quoted) {
					t.Fatalf("a quote is open: %q", body)
				}
				field, body = strings.ReplaceAll(quoted[:end], `""`, `"`), quoted[end+1:]
			} else {
				end := strings.IndexAny(body+"\n", ",\r\n")
				field, body = body[:end], body[end:]
			}
			record = append(record, field)
		}
		rest, ok := strings.CutPrefix(body, "\r\n")
		if !ok {
			t.Fatalf("a record does not end with CRLF: %q", body)
		}
		records, body = append(records, record), rest
	}
	return records
}

// valuesOf are the values of a field of all rows, from JSON.
func valuesOf(t *testing.T, a answer, field string) (values []string) {
	t.Helper()
	names, rows := jsonRows(t, a.body)
	for i, name := range names {
		if strings.TrimPrefix(name, "total_") == strings.TrimPrefix(field, "total_") {
			for _, row := range rows {
				values = append(values, row[i])
			}
		}
	}
	return values
}

// oddZones have offsets of half and three quarters of an hour, clocks that change at midnight or by half an hour, and the extremes.
// Postgres does not know the last one.
var oddZones = []string{
	"UTC", "America/Havana", "Asia/Beirut", "Pacific/Apia", "Africa/Cairo", "Asia/Kathmandu", "Australia/Lord_Howe",
	"Pacific/Kiritimati", "America/St_Johns", "Mars/Olympus_Mons",
}

// setupDemo puts the API before a demo host, and returns the user who may read all of it. What is written is not counted yet.
func setupDemo(t *testing.T, tasks int) (b *bundle, user string) {
	t.Helper()
	pool := testdb.New(t)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: tasks, Days: 380, Projects: 4, Issues: 50}); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `
		UPDATE public.agent_runtime r SET timezone = ($1::text[])[1 + x.n % cardinality($1::text[])]
		FROM (SELECT id, (row_number() OVER (ORDER BY id) - 1)::integer AS n FROM public.agent_runtime) x WHERE r.id = x.id`, oddZones)
	exec(t, pool, stirSQL)
	host, err := demo.Describe(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, pool), host.Owner
}

// An edge is a moment at which a window may begin or end, and a bit that stands for it.
type edge struct {
	at    time.Time
	local int // how many days ago its date in the zone is
	utc   int // how many days ago its date in UTC is
	bit   int64
}

func (b *bundle) edges(t *testing.T, zone string) []edge {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), edgesSQL, zone, []int{-1, 0, 1, 2, 7, 8, 30, 31, 90, 91, 365, 366})
	if err != nil {
		t.Fatal(err)
	}
	var list []edge
	for rows.Next() {
		var e edge
		if err := rows.Scan(&e.at, &e.local, &e.utc, &e.bit); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return list
}

// addEdges adds a workspace with a runtime, and a task for each edge, whose tokens and whose seconds are the edge's bit.
func (b *bundle) addEdges(t *testing.T, edges []edge) (workspace, runtime string) {
	t.Helper()
	workspace = query[string](t, b.pool, `INSERT INTO public.workspace (slug) VALUES (gen_random_uuid()::text) RETURNING id::text`)
	exec(t, b.pool, `INSERT INTO public.member (workspace_id, user_id, role) VALUES ($1, $2, 'owner')`, workspace, owner)
	runtime = query[string](t, b.pool, `
		INSERT INTO public.agent_runtime (workspace_id, name, provider, timezone) VALUES ($1, 'r', 'p', 'Europe/Paris') RETURNING id::text`, workspace)
	agent := query[string](t, b.pool, `INSERT INTO public.agent (workspace_id, runtime_id) VALUES ($1, $2) RETURNING id::text`, workspace, runtime)
	for _, e := range edges {
		exec(t, b.pool, `
			WITH task AS (
				INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at, completed_at)
				VALUES ($1, $2, 'completed', $3::timestamptz - $4::bigint * interval '1 s', $3) RETURNING id
			)
			INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) SELECT id, 'p', 'm', $4, $3 FROM task`,
			agent, runtime, e.at, e.bit)
	}
	return workspace, runtime
}

// compareEdges says which edges are counted that must not be, and which are not. Workspace or runtime may be empty.
func (b *bundle) compareEdges(t *testing.T, name, workspace, runtime string, edges []edge) (difference string) {
	t.Helper()
	header := headerOf(t, owner)
	for _, pattern := range usagePatterns {
		q := about(pattern, runtime, workspace)
		if q.owner == "" || !hasDays(pattern) {
			continue
		}
		field := "input_tokens"
		if !strings.Contains(pattern, "/usage") {
			field = "total_seconds"
		}
		asked := []int{0, 1, 7, 30, 90, 365}
		for _, e := range edges {
			if e.local > 1 && e.local <= 365 {
				asked = append(asked, e.local)
			}
		}
		slices.Sort(asked)
		for _, q.days = range slices.Compact(asked) {
			a := b.record(t, q.path(""), header)
			a.require(t, 200)
			var counted int64
			for _, value := range valuesOf(t, a, field) {
				n, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				counted += n
			}
			for _, e := range edges {
				want := e.utc < q.window()
				if isOfRuntime(pattern) {
					want = e.local <= q.window()
				}
				if got := counted&e.bit != 0; got != want {
					difference += fmt.Sprintf("%s, %s: %v, %d days ago (UTC: %d), is counted: %v\n",
						name, q.path(""), e.at.UTC(), e.local, e.utc, got)
				}
			}
		}
	}
	return difference
}

// newCollatedHost returns a host whose database sorts text as people do, and not by its bytes.
func newCollatedHost(t *testing.T) *pgxpool.Pool {
	t.Helper()
	admin := testdb.NewHost(t)
	name := "daybook_test_collated_" + strings.ToLower(rand.Text())
	exec(t, admin, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en'`)
	t.Cleanup(func() {
		if _, err := admin.Exec(context.Background(), `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Error(err)
		}
	})
	pool := testdb.Open(t, admin, func(c *pgxpool.Config) { c.ConnConfig.Database = name })
	if err := demo.CreateHost(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

package httpapi_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/migrations"
)

func TestEqualToTheSource(t *testing.T) {
	t.Parallel()
	autumn := time.Date(time.Now().Year(), time.October, 20, 0, 0, 0, 0, time.UTC)
	if autumn.After(time.Now()) {
		autumn = autumn.AddDate(-1, 0, 0)
	}
	for name, start := range map[string]time.Time{
		"history across today": time.Now().AddDate(0, 0, -9), "history across a change of clocks": autumn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := history.Seed(t)
			b := setup(t)
			err := history.Play(t.Context(), b.pool, history.Config{Seed: seed, Start: start, Transactions: 150, KeepOthers: true})
			if err != nil {
				t.Fatal(err)
			}
			b.countAll(t)
			exec(t, b.pool, `
				INSERT INTO public.member (workspace_id, user_id, role) SELECT id, $1, 'member' FROM public.workspace ON CONFLICT DO NOTHING`, owner)
			f := b.survey(t)
			b.requireEqual(t, owner, f, f.questions(windows...), b.sides(t, "rollup"))
		})
	}
	t.Run("demo", func(t *testing.T) {
		t.Parallel()
		b, user := setupDemo(t, 2500)
		b.countAll(t)
		f := b.survey(t)
		if f.zones[f.runtimes[len(oddZones)-1]] != "UTC" || len(f.used) < len(oddZones) {
			t.Errorf("the runtimes are %v", f)
		}
		b.requireEqual(t, user, f, f.questions(windows...), b.sides(t, "rollup"))
	})
}

func TestEqualWhileARebuildIsPending(t *testing.T) {
	t.Parallel()
	b, user := setupDemo(t, 1500)
	b.countAll(t)
	f := b.survey(t)
	// Each gets the zone of the next.
	for i, runtime := range f.runtimes {
		b.setZone(t, runtime, oddZones[(i+1)%len(oddZones)])
	}
	f = b.survey(t)
	var questions []question
	for _, q := range f.questions(windows...) {
		if isOfRuntime(q.pattern) {
			questions = append(questions, q)
		}
	}
	b.requireEqual(t, user, f, questions, b.sides(t, "live"))
	b.countAll(t)
	b.requireEqual(t, user, f, questions, b.sides(t, "rollup"))
}

func TestWindowEdges(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{
		"UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "X+100",
	} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			source := b.fromSource(t)
			b.onSameDays(t, []string{zone}, func() string {
				edges := b.edges(t, zone)
				workspace, runtime := b.addEdges(t, edges)
				b.drain(t)
				difference := b.compareEdges(t, "rollup of another zone", workspace, "", edges)
				b.setZone(t, runtime, zone)
				difference += b.compareEdges(t, "live", "", runtime, edges)
				b.rebuild(t, b.pool, runtime)
				difference += b.compareEdges(t, "rollup", "", runtime, edges)
				return difference + source.compareEdges(t, "source", workspace, runtime, edges)
			})
		})
	}
}

// addTask adds a task of an agent of the runtime, and returns its id. Times are SQL.
func (b *bundle) addTask(t *testing.T, runtime, status, started, completed string) string {
	t.Helper()
	return query[string](t, b.pool, `
		INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at, completed_at)
		SELECT id, runtime_id, $2, `+started+`, `+completed+` FROM public.agent WHERE runtime_id = $1 ORDER BY id LIMIT 1 RETURNING id::text`,
		runtime, status)
}

// use adds a row of usage to a task. At is SQL.
func (b *bundle) use(t *testing.T, task, provider, model, at string, input int64) {
	t.Helper()
	exec(t, b.pool, `
		INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, $2, $3, $4, `+at+`)`,
		task, provider, model, input)
}

// requireValues compares the values of a field in all rows.
func (b *bundle) requireValues(t *testing.T, path, field, want string) {
	t.Helper()
	if got := strings.Join(valuesOf(t, b.call(t, path, headerOf(t, owner)), field), " "); got != want {
		t.Errorf("%s: %s is %q, want %q", path, field, got, want)
	}
}

func TestTaskCountIsDistinct(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	long, short, mixed := b.addTask(t, runtime, "running", "NULL", "NULL"), b.addTask(t, runtime, "running", "NULL", "NULL"), b.addTask(t, runtime, "running", "NULL", "NULL")
	b.use(t, long, "p1", "m", "now()", 1000)
	b.use(t, long, "p2", "m", "now() - interval '3 days'", 1)
	b.use(t, long, "p3", "m", "now() - interval '20 days'", 1)
	b.use(t, long, "p1", "n", "now() - interval '3 days'", 1)
	b.use(t, short, "p1", "m", "now() - interval '3 days'", 1)
	// Two providers at one moment, and once more in another hour.
	b.use(t, mixed, "p1", "m", "now() - interval '3 days'", 2000)
	b.use(t, mixed, "p2", "m", "now() - interval '3 days'", 1)
	b.use(t, mixed, "p3", "m", "now() - interval '3 days 5 hours'", 1)
	b.countAll(t)
	// Rows are of the model m, then of n.
	byAgent := "/api/runtimes/" + runtime + "/usage/by-agent?"
	b.requireValues(t, byAgent+"days=1", "task_count", "1")
	b.requireValues(t, byAgent+"days=7", "task_count", "3 1")
	b.requireValues(t, byAgent+"days=30", "task_count", "3 1")
	for _, path := range []string{"/api/usage/summary", "/api/dashboard/usage/by-agent"} {
		b.requireValues(t, path+"?workspace_slug=acme&days=7", "task_count", "3 1")
		b.requireValues(t, path+"?workspace_slug=acme&days=30", "task_count", "3 1")
	}
	b.requireEqualAnswers(t)
	// Without its latest usage a task counts where it was used before.
	exec(t, b.pool, `DELETE FROM public.task_usage WHERE task_id = $1 AND created_at > now() - interval '1 day'`, long)
	b.countAll(t)
	b.requireValues(t, byAgent+"days=1", "task_count", "")
	b.requireValues(t, byAgent+"days=7", "task_count", "3 1")
	b.requireEqualAnswers(t)
}

func TestSecondsAreRoundedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	exec(t, b.pool, `DELETE FROM public.agent`)
	const agent = "00000000-0000-4000-8000-00000000010"
	for i := range 9 {
		exec(t, b.pool, `INSERT INTO public.agent (id, workspace_id, runtime_id) VALUES ($1, '00000000-0000-4000-8000-000000000001', $2)`,
			agent+strconv.Itoa(i), runtime)
	}
	// Days far in the future are always in the window.
	for _, task := range []struct {
		agent             int
		status, completed string // null if empty
		microseconds      int64
	}{
		{1, "completed", "2901-05-01 12:00Z", 500_000},
		{1, "completed", "2901-05-02 00:00Z", 500_000},
		{1, "completed", "2901-05-03 23:59:59.999999Z", 500_000},
		{2, "completed", "2901-05-02 12:00Z", 2_500_000},
		{3, "completed", "2901-05-02 12:00Z", 499_999},
		{4, "completed", "2901-05-03 12:00Z", -500_000},
		{5, "completed", "2901-05-03 12:00Z", 250_000},
		{5, "completed", "2901-05-03 12:00Z", 250_000},
		{6, "failed", "2901-05-01 12:00Z", 10_000_000},
		{6, "failed", "2901-05-01 12:00Z", 400_000},
		{6, "completed", "2901-05-01 12:00Z", 100_000},
		{0, "failed", "2901-05-02 12:00Z", 3_000_000},
		// These do not count.
		{7, "cancelled", "2901-05-01 12:00Z", 1_000_000},
		{7, "running", "2901-05-01 12:00Z", 1_000_000},
		{7, "completed", "", 1_000_000},
		{8, "failed", "", 1_000_000},
	} {
		exec(t, b.pool, `
			INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at, completed_at)
			SELECT $1, $2, $3, coalesce(at, now()) - $5::bigint * interval '1 microsecond', at
			FROM (SELECT nullif($4, '')::timestamptz) x (at)`,
			agent+strconv.Itoa(task.agent), runtime, task.status, task.completed, task.microseconds)
	}
	exec(t, b.pool, `
		INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, completed_at) VALUES ($1, $2, 'completed', now())`, agent+"7", runtime)
	b.countAll(t)
	row := func(name, value string, seconds, tasks, failed int) string {
		return fmt.Sprintf(`{%q:%q,"total_seconds":%d,"task_count":%d,"failed_count":%d}`, name, value, seconds, tasks, failed)
	}
	b.requireBody(t, "/api/dashboard/agent-runtime?workspace_slug=acme&days=1", "["+strings.Join([]string{
		row("agent_id", agent+"6", 11, 3, 2), row("agent_id", agent+"0", 3, 1, 1), row("agent_id", agent+"2", 3, 1, 0), row("agent_id", agent+"1", 2, 3, 0),
		row("agent_id", agent+"5", 1, 2, 0), row("agent_id", agent+"3", 0, 1, 0), row("agent_id", agent+"4", -1, 1, 0),
	}, ",")+"]\n")
	b.requireBody(t, "/api/dashboard/runtime/daily?workspace_slug=acme&days=1", "["+strings.Join([]string{
		row("date", "2901-05-03", 1, 4, 0), row("date", "2901-05-02", 6, 4, 1), row("date", "2901-05-01", 11, 4, 2),
	}, ",")+"]\n")
	b.requireEqualAnswers(t)
}

// In these zones clocks go forward at midnight, so a day begins at one o'clock, and go back so that an hour comes twice.
func TestClockChanges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ zone, hours, tokens, tasks string }{
		{"America/Havana", "0 1 23", "1110 1 1", "2 1 1"},
		{"Asia/Beirut", "1 23 23", "1 1 1110", "1 1 2"},
	} {
		t.Run(test.zone, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			// A year so far in the future is in every window.
			change := func(condition string) func(string) string {
				at := query[string](t, b.pool, `
					SELECT min(i)::text FROM generate_series('2901-01-01Z', '2902-01-01Z', interval '1 hour') i,
						LATERAL (SELECT extract(hour FROM (i - interval '1 hour') AT TIME ZONE $1), extract(hour FROM i AT TIME ZONE $1)) x (before, after)
					WHERE `+condition, test.zone)
				return func(later string) string { return "('" + at + "'::timestamptz + interval '" + later + "')" }
			}
			forward, back := change("before = 23 AND after = 1"), change("before = after")
			runtime := b.addRuntime(t, test.zone)
			first, last := b.addTask(t, runtime, "running", forward("0"), "NULL"), b.addTask(t, runtime, "running", forward("-1 us"), "NULL")
			b.use(t, first, "p", "first", forward("0"), 1)
			b.use(t, last, "p", "last", forward("-1 us"), 1)
			twice, once := b.addTask(t, runtime, "running", back("-50 min"), "NULL"), b.addTask(t, runtime, "running", back("10 min"), "NULL")
			b.use(t, twice, "p", "twice", back("-50 min"), 10)
			b.use(t, twice, "q", "twice", back("10 min"), 100)
			b.use(t, once, "p", "twice", back("20 min"), 1000)
			b.countAll(t)
			dates := query[string](t, b.pool, `SELECT concat_ws(' ', back, back, forward, forward - 1)
				FROM (SELECT (`+back("0")+` AT TIME ZONE $1)::date, (`+forward("0")+` AT TIME ZONE $1)::date) x (back, forward)`, test.zone)
			path := "/api/runtimes/" + runtime + "/usage?days=1"
			b.requireValues(t, path, "date", dates)
			b.requireValues(t, path, "input_tokens", "1010 100 1 1")
			path = "/api/runtimes/" + runtime + "/usage/by-hour?days=1"
			b.requireValues(t, path, "hour", test.hours)
			b.requireValues(t, path, "input_tokens", test.tokens)
			b.requireValues(t, path, "task_count", test.tasks)
			b.requireEqualAnswers(t)
			// Now it is in UTC, and answers in this zone are live.
			b.requireEqualAnswers(t)
		})
	}
}

func TestOrderOfRows(t *testing.T) {
	t.Parallel()
	models := []string{"b", "A", "a", "B", "ä", "Ä", "z", "Z", "_", "a b", "ab", "a-b", "Ω", "ω", "é", "e", "E", "10", "9", ""}
	for _, collated := range []bool{false, true} {
		t.Run(fmt.Sprintf("collated %v", collated), func(t *testing.T) {
			t.Parallel()
			pool := testdb.New(t)
			if collated {
				pool = newCollatedHost(t)
			}
			exec(t, pool, populateSQL)
			b := serve(t, pool)
			b.addRuntime(t, "Asia/Kathmandu")
			exec(t, b.pool, `
				INSERT INTO public.agent (workspace_id, runtime_id) SELECT workspace_id, runtime_id FROM public.agent, generate_series(1, 4)`)
			for i, model := range models {
				for j, provider := range []string{"p", "P", "ö"} {
					// As many tokens of each model, and as many seconds of each agent.
					exec(t, b.pool, `
						WITH task AS (
							INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at, completed_at)
							SELECT id, runtime_id, 'failed', now() - interval '1 min', now() FROM public.agent RETURNING id
						)
						INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens, created_at)
						SELECT id, $1, $2, $3::bigint, 1000 - $3::bigint, now() - $4 * interval '1 day' FROM task LIMIT 3`, provider, model, 40*i, j)
				}
			}
			b.requireEqualAnswers(t)
			got := valuesOf(t, b.call(t, "/api/usage/summary?workspace_slug=acme", headerOf(t, owner)), "model")
			if len(got) != len(models) || collated && slices.IsSorted(got) {
				t.Errorf("the models are %q", got)
			}
		})
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime, unused := b.addRuntime(t, "UTC"), b.addRuntime(t, "UTC")
	b.addNamed(t, runtime, `a,b`, `say "x"`, `"`, " lead", "trail ", "tab\t", "=1+1", "", `\`, "größe", "<b>&", "\u2028", `\.`, "'", "#")
	for _, b := range []*bundle{b, b.fromSource(t)} {
		for _, pattern := range usagePatterns {
			names, rows := b.compareCSV(t, owner, about(pattern, runtime, acmeID))
			if len(rows) == 0 || !slices.Equal(rows[0], names) {
				t.Errorf("%s: the header is %q, want %q", pattern, rows, names)
			}
			_, empty := b.compareCSV(t, map[bool]string{true: owner, false: stranger}[isOfRuntime(pattern)], about(pattern, unused, otherID))
			if len(empty) != 1 || !slices.Equal(empty[0], names) {
				t.Errorf("%s: without rows it is %q, want %q", pattern, empty, names)
			}
		}
	}
}

func TestCSVKeepsLineBreaks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	b.addNamed(t, runtime, "two\nlines", "two\r\nlines", "a\rb", "ab", "\n", "\r")
	for _, pattern := range usagePatterns {
		b.compareCSV(t, owner, about(pattern, runtime, acmeID))
	}
}

// addNamed adds a task for each name, which is that of its provider and its model, and counts them.
func (b *bundle) addNamed(t *testing.T, runtime string, names ...string) {
	t.Helper()
	for i, name := range names {
		b.use(t, b.addTask(t, runtime, "completed", "now()", fmt.Sprintf("now() + interval '%d days'", i)), name, name, "now()", int64(i))
	}
	b.countAll(t)
}

// compareCSV compares the rows of the answers in JSON and CSV, and what else they must have in common. It returns the names in JSON and all
// records in CSV.
func (b *bundle) compareCSV(t *testing.T, user string, q question) (names []string, records [][]string) {
	t.Helper()
	inJSON := b.call(t, q.path(""), headerOf(t, user, "Accept", "application/json"))
	inJSON.require(t, 200)
	accepted := b.call(t, q.path(""), headerOf(t, user, "Accept", "text/csv"))
	suffixed := b.call(t, q.path(".csv"), headerOf(t, user, "Accept", "application/json"))
	names, rows := jsonRows(t, inJSON.body)
	records = csvRows(t, accepted.body)
	if len(records) != len(rows)+1 {
		t.Fatalf("%s as text/csv has %d records for %d rows", q.path(""), len(records), len(rows))
	}
	for i, row := range rows {
		if !slices.Equal(records[1+i], row) {
			t.Errorf("%s as text/csv has the row %q, want %q", q.path(""), records[1+i], row)
		}
	}
	if suffixed.body != accepted.body {
		t.Errorf("%s is\n%q, want\n%q", q.path(".csv"), suffixed.body, accepted.body)
	}
	for _, inCSV := range []answer{accepted, suffixed} {
		if got := inCSV.header.Get("Content-Type"); inCSV.status != 200 || got != "text/csv; charset=utf-8" {
			t.Errorf("%s as text/csv: %d %q", q.path(""), inCSV.status, got)
		}
		for _, name := range []string{"Cache-Control", "Vary", "Daybook-Timezone", "Daybook-Source"} {
			if got, want := inCSV.header.Values(name), inJSON.header.Values(name); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%s as text/csv: %s is %q, want %q", q.path(""), name, got, want)
			}
		}
		if inCSV.header.Get("ETag") == inJSON.header.Get("ETag") {
			t.Errorf("%s: JSON and CSV have one ETag", q.path(""))
		}
	}
	return names, records
}

func TestAccept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := about("/api/usage/summary", "", acmeID).path("")
	for accept, csv := range map[string]bool{
		"text/csv": true, "text/csv;q=0.1": true, "text/csv;q=0": false, "text/csv;q=0.000, application/json;q=0": false, "application/json, text/csv": false,
		"text/csv, application/json": true, "text/csv, */*;q=0.1": true, "*/*": false, "*/*, text/csv;q=0.5": false, "text/html, */*": false,
		"application/json;q=0.4,text/csv;q=0.5": true, "application/*;q=0.9, text/csv;q=0.8": false, "text/csv; charset=utf-8": true,
		"": false, "garbage": false, "text/csv;q=x": false, ";;,,=": false, "text/csvx": false, "x/y;a=text/csv": false, "text/csv;q=NaN": false,
	} {
		a := b.call(t, path, headerOf(t, owner, "Accept", accept))
		want := map[bool]string{true: "text/csv; charset=utf-8", false: "application/json; charset=utf-8"}[csv]
		if got := a.header.Get("Content-Type"); a.status != 200 || got != want {
			t.Errorf("Accept: %s gives %d %s, want %s", accept, a.status, got, want)
		}
	}
}

// The names of media types are the same in any case (RFC 9110, section 8.3.1), and several fields are one list (section 5.3).
func TestAcceptInAnyForm(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := about("/api/usage/summary", "", acmeID).path("")
	for _, test := range []struct {
		accept []string
		csv    bool
	}{
		{[]string{"TEXT/CSV"}, true},
		{[]string{"Text/Csv;Q=0"}, false},
		{[]string{"application/json", "text/csv;q=0.5"}, false},
		{[]string{"text/csv;q=0.5", "application/json"}, false},
		{[]string{"text/html", "text/csv"}, true},
	} {
		header := headerOf(t, owner)
		header["Accept"] = test.accept
		if got := b.call(t, path, header).header.Get("Content-Type"); strings.HasPrefix(got, "text/csv") != test.csv {
			t.Errorf("Accept: %q gives %s", test.accept, got)
		}
	}
}

func TestETag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "Asia/Tokyo")
	task := b.addTask(t, runtime, "completed", "now()", "now()")
	b.use(t, task, "p", "m", "now()", 1)
	b.countAll(t)
	apis := []*bundle{b, b.fromSource(t)}
	type tagged struct {
		*bundle
		path, format string
	}
	tags := make(map[tagged]string)
	for _, api := range apis {
		for _, pattern := range usagePatterns {
			for _, format := range []string{"application/json", "text/csv"} {
				asked := tagged{api, about(pattern, runtime, acmeID).path(""), format}
				tags[asked] = api.requireNotModified(t, asked.path, headerOf(t, owner, "Accept", format))
			}
		}
	}
	exec(t, b.pool, `UPDATE public.task_usage SET cache_write_tokens = 1`)
	exec(t, b.pool, `UPDATE public.agent_task_queue SET completed_at = completed_at + interval '1 s'`)
	b.addTask(t, runtime, "running", "now()", "NULL")
	b.countAll(t)
	for asked, tag := range tags {
		a := asked.call(t, asked.path, headerOf(t, owner, "Accept", asked.format, "If-None-Match", tag))
		if a.status != 200 || a.body == "" || a.header.Get("ETag") == tag {
			t.Errorf("%s changed, and it is %d %q %s", asked.path, a.status, a.body, a.header.Get("ETag"))
		}
	}
}

// requireNotModified asks with all kinds of If-None-Match, and returns the tag.
func (b *bundle) requireNotModified(t *testing.T, path string, header http.Header) (tag string) {
	t.Helper()
	full := b.call(t, path, header)
	tag = full.header.Get("ETag")
	strong, weak := strings.CutPrefix(tag, "W/")
	if full.status != 200 || full.body == "" || !weak || len(strong) < 4 || strong[0] != '"' || strong[len(strong)-1] != '"' {
		t.Fatalf("%s: status is %d, ETag is %q, body is %q", path, full.status, tag, full.body)
	}
	for match, status := range map[string]int{
		tag: 304, strong: 304, "*": 304, `"x", ` + tag: 304, `W/"x",` + strong + `, "y"`: 304, "\t" + tag + " ": 304,
		`"x"`: 200, `W/"x", "y"`: 200, strings.Trim(strong, `"`): 200, `"*"`: 200, "": 200,
	} {
		conditional := header.Clone()
		conditional.Set("If-None-Match", match)
		a := b.call(t, path, conditional)
		body := full.body
		if status == 304 {
			body = ""
		}
		if a.status != status || a.body != body {
			t.Errorf("%s, If-None-Match: %s: %d %q, want %d %q", path, match, a.status, a.body, status, body)
		}
		for _, name := range []string{"ETag", "Cache-Control", "Vary", "Daybook-Timezone", "Daybook-Source"} {
			if got, want := a.header.Values(name), full.header.Values(name); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%s, If-None-Match: %s: %s is %q, want %q", path, match, name, got, want)
			}
		}
		if a.header.Get("Cache-Control") != "private" || a.header.Get("Daybook-Lag-Seconds") == "" {
			t.Errorf("%s, If-None-Match: %s: header is %v", path, match, a.header)
		}
		if status == 304 && (a.header.Get("Content-Encoding") != "" || a.header.Get("Content-Type") != "") {
			t.Errorf("%s, If-None-Match: %s: what is not there has a type: %v", path, match, a.header)
		}
	}
	two := header.Clone()
	two["If-None-Match"] = []string{`"x"`, tag}
	if a := b.call(t, path, two); a.status != 304 {
		t.Errorf("%s, the second If-None-Match has the tag: %d", path, a.status)
	}
	return tag
}

func TestCompression(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime, unused := b.addRuntime(t, "UTC"), b.addRuntime(t, "UTC")
	task := b.addTask(t, runtime, "completed", "now()", "now()")
	for i := range 60 {
		b.use(t, task, "p", fmt.Sprintf("model %d", i), "now()", 1)
	}
	b.countAll(t)
	for _, format := range []string{"application/json", "text/csv"} {
		path := usagePath(runtime, "")
		plain := b.call(t, path, headerOf(t, owner, "Accept", format))
		compressed := b.call(t, path, headerOf(t, owner, "Accept", format, "Accept-Encoding", "gzip, deflate, br"))
		whole := b.call(t, path, headerOf(t, owner, "Accept", format, "Accept-Encoding", "identity"))
		if got, want := whole.header.Get("Content-Length"), strconv.Itoa(len(whole.body)); got != want || whole.body != plain.body {
			t.Errorf("%s: Content-Length is %q, want %s", format, got, want)
		}
		if got := compressed.header.Get("Content-Encoding"); got != "gzip" || len(compressed.body) > len(plain.body)/2 {
			t.Fatalf("%s: Content-Encoding is %q, %d bytes became %d", format, got, len(plain.body), len(compressed.body))
		}
		reader, err := gzip.NewReader(strings.NewReader(compressed.body))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(reader); err != nil || string(body) != plain.body {
			t.Errorf("%s: the body is another one when it is decompressed (%v)", format, err)
		}
		for _, name := range []string{"ETag", "Content-Type", "Vary", "Cache-Control", "Daybook-Source", "Daybook-Timezone"} {
			if got, want := compressed.header.Values(name), plain.header.Values(name); !slices.Equal(got, want) {
				t.Errorf("%s: %s is %q, and compressed %q", format, name, want, got)
			}
		}
		if vary := strings.Join(plain.header.Values("Vary"), ", "); !strings.Contains(vary, "Accept-Encoding") || !strings.Contains(vary, "Authorization") {
			t.Errorf("%s: Vary is %q", format, vary)
		}
		b.requireNotModified(t, path, headerOf(t, owner, "Accept", format, "Accept-Encoding", "gzip"))
	}
	for path, encoding := range map[string]string{
		usagePath(unused, ""): "gzip", usagePath(runtime, "days=1"): "gzip;q=0", usagePath(runtime, "days=2"): "identity", usagePath(runtime, "days=3"): "",
	} {
		a := b.call(t, path, headerOf(t, owner, "Accept-Encoding", encoding))
		if got := a.header.Get("Content-Encoding"); got != "" || !strings.HasPrefix(a.body, "[") {
			t.Errorf("%s for %q is encoded as %q", path, encoding, got)
		}
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := about("/api/usage/summary", "", acmeID).path("")
	lag := func(b *bundle) float64 {
		value := b.call(t, path, headerOf(t, owner)).header.Get("Daybook-Lag-Seconds")
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil || value != strconv.FormatFloat(seconds, 'f', 3, 64) {
			t.Fatalf("Daybook-Lag-Seconds is %q", value)
		}
		return seconds
	}
	source := b.fromSource(t)
	if got := lag(b); got != 0 {
		t.Errorf("nothing waits, and the lag is %v", got)
	}
	exec(t, b.pool, `INSERT INTO daybook.task_usage_daily_dirty (shard, task_id, enqueued_at) VALUES (7, gen_random_uuid(), now() - interval '1 hour')`)
	inserted := time.Now()
	for shown := false; !shown; {
		asked := time.Now()
		got := lag(b)
		shown = got >= 3600 && got < 3600+time.Since(inserted).Seconds()+1
		// If the lag could not be read in time, it is shown as so much older.
		if old := asked.Sub(inserted).Seconds(); !shown && old > 1 && got < old {
			t.Fatalf("an entry waits for %.1f s, and the lag is %v", old, got)
		}
	}
	if got := lag(source); got != 0 {
		t.Errorf("the host's own tables lag %v", got)
	}
	if err := migrations.Detach(t.Context(), b.pool); err != nil {
		t.Fatal(err)
	}
	a := serve(t, b.pool).call(t, path, headerOf(t, owner))
	a.require(t, 200)
	if got := a.header.Values("Daybook-Lag-Seconds"); len(got) > 0 {
		t.Errorf("without triggers the lag is %q", got)
	}
}

func TestEmptyAnswers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	never, old, pending := b.addRuntime(t, "UTC"), b.addRuntime(t, "UTC"), b.addRuntime(t, "Asia/Tokyo")
	for _, runtime := range []string{old, pending} {
		b.use(t, b.addTask(t, runtime, "completed", "NULL", "now()"), "p", "m", "now() - interval '400 days'", 1)
	}
	b.countAll(t)
	b.setZone(t, pending, "America/New_York")
	for _, b := range []*bundle{b, b.fromSource(t)} {
		for _, runtime := range []string{never, old, pending} {
			for _, pattern := range usagePatterns {
				q := about(pattern, runtime, acmeID)
				for _, q.days = range []int{0, 1, 365} {
					if !hasDays(pattern) {
						q.days = 0
					}
					b.requireBody(t, q.path(""), "[]\n")
				}
				if hasProject(pattern) {
					q.project = runtime
					b.requireBody(t, q.path(""), "[]\n")
				}
			}
		}
	}
}

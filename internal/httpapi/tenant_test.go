package httpapi_test

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"daybook/internal/httpapi"
)

// tenant is a workspace that has usage of its own. All that is to be recognised in an answer begins with its slug.
type tenant struct {
	slug, id, user                   string
	project, runtime, agent, foreign string // foreign is the model of its agent's tasks on the other's runtime
}

// kind is a kind of task, by whose agent it is and on whose runtime. So that sums tell which tasks are in them, the tasks of each kind
// use so many tokens and seconds, and are so many, as no sum of the others is.
type kind struct {
	agent, runtime int // index of the tenant
	tasks, weight  int64
}

var kinds = []kind{
	{agent: 0, runtime: 0, tasks: 1, weight: 1},
	{agent: 1, runtime: 1, tasks: 2, weight: 10},
	{agent: 0, runtime: 1, tasks: 4, weight: 100},
	{agent: 1, runtime: 0, tasks: 8, weight: 1000},
}

// addTenants fills the workspaces acme and other, also with tasks whose agent is of one and whose runtime of the other.
func addTenants(t *testing.T, b *bundle) [2]tenant {
	t.Helper()
	tenants := [2]tenant{
		{slug: "acme", id: "00000000-0000-4000-8000-000000000001", user: owner},
		{slug: "other", id: "00000000-0000-4000-8000-000000000002", user: stranger},
	}
	for i := range tenants {
		w := &tenants[i]
		w.project = query[string](t, b.pool, `INSERT INTO public.project (workspace_id) VALUES ($1) RETURNING id::text`, w.id)
		w.runtime = query[string](t, b.pool, `
			INSERT INTO public.agent_runtime (workspace_id, name, provider, device_info, metadata)
			VALUES ($1, $2 || '-runtime', $2 || '-provider', $2 || '-device', jsonb_build_object('m', $2 || '-metadata')) RETURNING id::text`, w.id, w.slug)
		w.agent = query[string](t, b.pool, `INSERT INTO public.agent (workspace_id, runtime_id) VALUES ($1, $2) RETURNING id::text`, w.id, w.runtime)
		w.foreign = w.slug + "-abroad"
	}
	for _, k := range kinds {
		agent, at := tenants[k.agent], tenants[k.runtime]
		model := agent.slug + "-model"
		if k.agent != k.runtime {
			model = agent.foreign
		}
		exec(t, b.pool, `
			WITH issue AS (INSERT INTO public.issue (workspace_id, project_id) VALUES ($1, $2) RETURNING id),
			task AS (
				INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id, status, started_at, completed_at)
				SELECT $3, $4, id, 'completed', now() - $6 * interval '1 second', now() FROM issue, generate_series(1, $5)
				RETURNING id
			)
			INSERT INTO public.task_usage (task_id, provider, model, input_tokens) SELECT id, $7, $8, $6 FROM task`,
			agent.id, agent.project, agent.agent, at.runtime, k.tasks, k.weight, agent.slug+"-provider", model)
	}
	b.drain(t)
	return tenants
}

// weigh adds up what an answer of usage says of tokens or, if it says nothing of them, of seconds or of tasks.
func weigh(t *testing.T, a answer) (sum int64) {
	t.Helper()
	var rows []map[string]string
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
		records, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
		if err != nil || len(records) == 0 {
			t.Fatalf("%v: %s", err, a.body)
		}
		for _, record := range records[1:] {
			row := make(map[string]string)
			for i, value := range record {
				row[records[0][i]] = value
			}
			rows = append(rows, row)
		}
	} else {
		var list []map[string]any
		decoder := json.NewDecoder(strings.NewReader(a.body))
		decoder.UseNumber()
		if err := decoder.Decode(&list); err != nil {
			t.Fatalf("%v: %s", err, a.body)
		}
		for _, object := range list {
			row := make(map[string]string)
			for name, value := range object {
				if number, ok := value.(json.Number); ok {
					row[name] = number.String()
				}
			}
			rows = append(rows, row)
		}
	}
	for _, row := range rows {
		for _, name := range []string{"input_tokens", "total_input_tokens", "total_seconds", "count"} {
			if value, ok := row[name]; ok {
				n, err := strconv.ParseInt(value, 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}

// expected is what weigh must return for a tenant's own answer.
func expected(route apiRoute, who int) (sum int64) {
	for _, k := range kinds {
		switch {
		case route.ofRuntime() && k.runtime != who, !route.ofRuntime() && k.agent != who:
		case strings.HasPrefix(route.pattern, "/api/runtimes/{runtimeId}/activity"):
			sum += k.tasks
		default:
			sum += k.tasks * k.weight
		}
	}
	return sum
}

func TestNoAnswerHoldsAnothersRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants := addTenants(t, b)
	// Somebody who belongs to both sees each by itself.
	exec(t, b.pool, `INSERT INTO public.member (workspace_id, user_id, role) VALUES ($1, $3, 'member'), ($2, $3, 'admin')`,
		tenants[0].id, tenants[1].id, outsider)

	compare := func(b *bundle, source string) {
		for _, route := range apiRoutes(t, b.api) {
			if route.method != http.MethodGet {
				continue
			}
			for who, own := range tenants {
				other := tenants[1-who]
				for _, user := range []string{own.user, other.user, outsider} {
					for _, accept := range []string{"application/json", "text/csv"} {
						if accept == "text/csv" && (!route.isUsage() || strings.HasSuffix(route.pattern, ".csv")) {
							continue // It makes no difference.
						}
						header := bearer(t, user)
						header.Set("Accept", accept)
						path := route.path(own.runtime, map[string]string{
							own.user: "workspace_slug=" + own.slug, other.user: "workspace_id=" + own.id, outsider: "workspace_id=" + own.id,
						}[user])
						a := b.do(t, route.method, path, header)
						if user == other.user {
							a.require(t, http.StatusNotFound)
							if strings.Contains(a.body, own.slug) || strings.Contains(a.body, other.slug) {
								t.Errorf("%s %s: %s", source, path, a.body)
							}
							continue
						}
						requireOwn(t, source, route, path, a, own, other, expected(route, who))
					}
				}
			}
		}
	}
	compare(b, "rollup")
	compare(serve(t, b.pool, func(c *httpapi.Config) { c.Source = httpapi.SourceHost }), "source")
	for _, w := range tenants {
		b.setZone(t, w.runtime, "Asia/Kathmandu")
	}
	compare(b, "live")
}

// requireOwn checks that an answer to a tenant holds all of its own rows, and none of the other's.
func requireOwn(t *testing.T, source string, route apiRoute, path string, a answer, own, other tenant, weight int64) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("%s %s: status is %d, body %s", source, path, a.status, a.body)
	}
	forbidden := []string{other.slug + "-model", other.slug + "-runtime", other.slug + "-device", other.slug + "-metadata", other.runtime, other.id, other.project}
	if route.ofRuntime() {
		// What the other's agents have done on this runtime is its usage, so by-agent names them; but not what this one's did elsewhere.
		forbidden = append(forbidden, own.foreign)
	} else {
		forbidden = append(forbidden, other.foreign, other.agent, other.slug+"-provider")
	}
	for _, s := range forbidden {
		if strings.Contains(a.body, s) {
			t.Errorf("%s %s: the answer holds %s, which is another's:\n%s", source, path, s, a.body)
		}
	}
	if !route.isUsage() {
		if !strings.Contains(a.body, own.slug+"-runtime") {
			t.Errorf("%s %s: the answer lacks its own:\n%s", source, path, a.body)
		}
		return
	}
	if got := weigh(t, a); got != weight {
		t.Errorf("%s %s: it adds up to %d, want %d:\n%s", source, path, got, weight, a.body)
	}
	want := source
	if source == "live" && !route.ofRuntime() {
		want = "rollup" // Their days are UTC always.
	}
	if got := a.header.Get("Daybook-Source"); got != want {
		t.Errorf("%s: source is %q, want %q", path, got, want)
	}
	if csv := strings.HasPrefix(a.header.Get("Content-Type"), "text/csv"); strings.HasSuffix(route.pattern, ".csv") && !csv {
		t.Errorf("%s: Content-Type is %q", path, a.header.Get("Content-Type"))
	}
}

func TestProjectOfAnotherWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tenants := addTenants(t, b)
	dashboards := slices.DeleteFunc(slices.Clone(usagePatterns), func(p string) bool { return !strings.HasPrefix(p, "/api/dashboard/") })
	if len(dashboards) != 4 {
		t.Errorf("dashboards are %q", dashboards)
	}
	for _, source := range sources {
		b := serve(t, b.pool, func(c *httpapi.Config) { c.Source = source })
		for _, pattern := range dashboards {
			for who, own := range tenants {
				other := tenants[1-who]
				ask := func(w, project tenant) answer {
					return b.get(t, own.user, pattern+"?workspace_slug="+w.slug+"&project_id="+project.project)
				}
				a := ask(own, other)
				a.require(t, http.StatusOK)
				if a.body != "[]\n" {
					t.Errorf("%s %s: the project of another workspace gives %s", source, pattern, a.body)
				}
				a = ask(own, own)
				a.require(t, http.StatusOK)
				if got, want := weigh(t, a), expected(apiRoute{pattern: pattern}, who); got != want {
					t.Errorf("%s %s: the project adds up to %d, want %d: %s", source, pattern, got, want, a.body)
				}
				ask(other, own).require(t, http.StatusNotFound)
				ask(other, other).require(t, http.StatusNotFound)
			}
		}
	}
}

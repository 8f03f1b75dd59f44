package httpapi_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"daybook/internal/httpapi"
)

const acme = "00000000-0000-4000-8000-000000000001"

func TestDescriptionIsOpenAPI31(t *testing.T) {
	t.Parallel()
	d := openAPI(t)
	if !strings.HasPrefix(d.get("openapi").text(), "3.1.") {
		t.Errorf("it is OpenAPI %s", d.get("openapi").text())
	}
	// The schema of OpenAPI 3.1 itself, from https://spec.openapis.org/oas/3.1/schema/2022-10-07.
	file, err := os.Open(filepath.Join("testdata", "openapi-3.1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	schema, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("oas.json", schema); err != nil {
		t.Fatal(err)
	}
	rules, err := compiler.Compile("oas.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := rules.Validate(d.value()); err != nil {
		t.Error(err)
	}
	broken, err := readDocument([]byte(strings.Replace(string(httpapi.OpenAPI), "in: header", "in: nowhere", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if rules.Validate(broken.root.value()) == nil {
		t.Error("a broken document passes")
	}
	// What the schema of OpenAPI does not say.
	var tags []string
	for _, tag := range d.get("tags").list() {
		tags = append(tags, tag.get("name").text())
	}
	ids := make(map[string]bool)
	for _, o := range describedOperations(t) {
		id, tagged := o.get("operationId").text(), o.get("tags").texts()
		if id == "" || ids[id] || o.get("summary").text() == "" || len(tagged) != 1 || !slices.Contains(tags, tagged[0]) {
			t.Errorf("%s: id %q must be its own, a summary and one tag of %v, %v, must be there", o, id, tags, tagged)
		}
		ids[id] = true
		for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(o.path, -1) {
			if !o.lists("path", name[1]) {
				t.Errorf("%s: the parameter %s of the path is not listed", o, name[1])
			}
		}
	}
	section := ""
	for line := range strings.SplitSeq(string(httpapi.OpenAPI[strings.Index(string(httpapi.OpenAPI), "\ncomponents:"):]), "\n") {
		if match := regexp.MustCompile(`^( {2}| {4})(\w+):$`).FindStringSubmatch(line); match != nil && len(match[1]) == 2 {
			section = match[2]
		} else if match != nil && section != "securitySchemes" &&
			!strings.Contains(string(httpapi.OpenAPI), "'#/components/"+section+"/"+match[2]+"'") {
			t.Errorf("components/%s/%s is of no use", section, match[2])
		}
	}
}

// Objects have the fields that are named and no others, and the examples are what they are examples of.
func TestSchemasAreExact(t *testing.T) {
	t.Parallel()
	d := openAPI(t)
	schemas := d.get("components", "schemas")
	for _, name := range schemas.keys() {
		schema := schemas.get(name)
		properties := schema.get("properties")
		closed := schema.get("additionalProperties").text() == "false" || schema.get("unevaluatedProperties").text() == "false"
		if len(properties.keys()) > 0 && !closed && name != "RuntimeFields" { // Which others close.
			t.Errorf("%s is open", name)
		}
		for _, property := range properties.keys() {
			if !slices.Contains(schema.get("required").texts(), property) && name != "RuntimeChange" {
				t.Errorf("%s: %s is not required", name, property)
			}
			requireExamples(t, name+"."+property, properties.get(property), properties.get(property))
		}
		requireExamples(t, name, schema, schema)
	}
	for _, name := range d.get("components", "headers").keys() {
		header := d.get("components", "headers", name)
		requireExamples(t, name, header.get("schema"), header)
	}
	for _, o := range describedOperations(t) {
		for _, p := range o.parameters {
			requireExamples(t, fmt.Sprint(o, " ", p.get("name").text()), p.get("schema"), p)
		}
	}
	for _, name := range d.get("components", "responses").keys() {
		content := d.get("components", "responses", name, "content")
		for _, media := range content.keys() {
			if media == "application/json" {
				requireExamples(t, name, content.get(media, "schema"), content.get(media))
			}
		}
	}
}

// requireExamples checks the examples that are at a place against a schema: one, a list of them, or some with names.
func requireExamples(t *testing.T, name string, schema, at node) {
	t.Helper()
	examples := at.get("examples").list()
	for _, named := range at.get("examples").keys() {
		examples = append(examples, at.get("examples", named, "value"))
	}
	if example := at.get("example"); example.exists() {
		examples = append(examples, example)
	}
	for _, example := range examples {
		if err := schema.validate(example.value()); err != nil {
			t.Errorf("%s: the example %v: %v", name, example.value(), err)
		}
	}
}

func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for writes, b := range map[bool]*bundle{false: b, true: serveWithWrites(t, b.pool)} {
		var routes, described []string
		err := chi.Walk(b.api.Handler.(chi.Routes), func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error { //nolint:forcetypeassert // It is one.
			routes = append(routes, method+" "+pattern)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range describedOperations(t) {
			// Without writes the other operations answer 405, and are described to.
			if writes || !o.get("responses", "405").exists() {
				described = append(described, o.method+" "+routeOf(o.path))
			}
		}
		slices.Sort(routes)
		slices.Sort(described)
		if !slices.Equal(routes, described) {
			t.Errorf("routes are\n%s\ndescribed are\n%s", strings.Join(routes, "\n"), strings.Join(described, "\n"))
		}
	}
}

// prober asks operations of an API that may write, and holds all answers to the description.
type prober struct {
	*bundle
	runtime string
}

func newProber(t *testing.T) *prober {
	t.Helper()
	b := setup(t)
	b = serveWithWrites(t, b.pool)
	return &prober{b, b.addRuntime(t, "UTC")}
}

// ask calls the handler, so that the log has the request's line when it returns. What a change begins with is what the
// operation needs for 200.
func (p *prober) ask(t *testing.T, o operation, change func(r *http.Request)) answer {
	t.Helper()
	runtime, body := p.runtime, ""
	switch o.method {
	case http.MethodPatch:
		body = `{"visibility":"public"}`
	case http.MethodDelete:
		runtime = p.addUnused(t)
	}
	path := strings.NewReplacer("{runtimeId}", runtime, "{asset}", "swagger-ui.css").Replace(o.path)
	request := httptest.NewRequest(o.method, path, strings.NewReader(body))
	if o.takes("bearer") {
		request.Header = bearer(t, owner)
	}
	if o.lists("query", "workspace_id") {
		request.URL.RawQuery = "workspace_id=" + acme
	}
	change(request)
	recorder := httptest.NewRecorder()
	p.api.ServeHTTP(recorder, request)
	a := answer{status: recorder.Code, header: recorder.Result().Header, body: recorder.Body.String()}
	describe(t, o.method, request.URL.RequestURI(), request.Header, a.status, a.header, a.body)
	return a
}

// badQuery and badHeader are requests that differ from a good one in one parameter, and what the answer must say of it. Where a
// parameter is not listed they must be as good as without it.
var (
	badQuery = map[string]struct {
		queries []string
		says    string
	}{
		"days": {
			[]string{"days=x", "days=0", "days=366", "days=", "days=7&days=7"}, "days must be one whole number from 1 to 365",
		},
		"project_id": {
			[]string{"project_id=x", "project_id=", "project_id=" + nobody + "&project_id=" + nobody}, "project_id must be one UUID, such as",
		},
		"owner":          {[]string{"owner=x", "owner=", "owner=ME", "owner=me&owner=me"}, "owner must be me"},
		"workspace_id":   {[]string{"workspace_id=x"}, "workspace id must be a UUID, such as"},
		"workspace_slug": {[]string{"workspace_slug=%ff", "workspace_slug=%00"}, "slug of a workspace must be text"},
	}
	badHeader = map[string]struct{ value, says string }{
		"X-Workspace-ID":   {"x", "workspace id must be a UUID, such as"},
		"X-Workspace-Slug": {"\xff", "slug of a workspace must be text"},
	}
)

// probe asks with a parameter that is not as it must be.
func (p *prober) probe(t *testing.T, o operation, in, name, says string, change func(r *http.Request)) {
	t.Helper()
	a := p.ask(t, o, change)
	switch {
	case o.lists(in, name) && (a.status != http.StatusBadRequest || !strings.Contains(a.body, says)):
		t.Errorf("%s: %s is described, so a bad one must give 400 and %q, not %d %s", o, name, says, a.status, a.body)
	case !o.lists(in, name) && a.status != http.StatusOK:
		t.Errorf("%s: %s is not described, but a bad one gives %d %s", o, name, a.status, a.body)
	}
}

func TestEveryParameterIsDescribedWhereItIsRead(t *testing.T) {
	t.Parallel()
	p := newProber(t)
	for _, o := range describedOperations(t) {
		good := p.ask(t, o, func(*http.Request) {})
		if good.status != http.StatusOK {
			t.Fatalf("%s: %d %s", o, good.status, good.body)
		}
		for name, bad := range badQuery {
			for _, query := range bad.queries {
				p.probe(t, o, "query", name, bad.says, func(r *http.Request) {
					if strings.HasPrefix(name, "workspace_") {
						r.URL.RawQuery = query
					} else {
						r.URL.RawQuery += "&" + query
					}
				})
			}
		}
		for name, bad := range badHeader {
			p.probe(t, o, "header", name, bad.says, func(r *http.Request) {
				r.URL.RawQuery = ""
				r.Header.Set(name, bad.value)
			})
		}
		if strings.Contains(o.path, "{runtimeId}") {
			p.probe(t, o, "path", "runtimeId", "runtime id must be a UUID, such as", func(r *http.Request) {
				r.URL.Path = strings.Replace(o.path, "{runtimeId}", "x", 1)
			})
		}
		p.probe(t, o, "query", "workspace_id", "name the workspace: workspace_slug or workspace_id", func(r *http.Request) { r.URL.RawQuery = "" })

		// These are never bad.
		tag := good.header.Get("ETag")
		if tag == "" || o.method != http.MethodGet {
			tag = "*"
		}
		a := p.ask(t, o, func(r *http.Request) { r.Header.Set("If-None-Match", tag) })
		if got := a.status == http.StatusNotModified; got != o.lists("header", "If-None-Match") {
			t.Errorf("%s: with If-None-Match the status is %d", o, a.status)
		}
		p.ask(t, o, func(r *http.Request) { r.Header.Set("X-Request-Id", "probe-"+o.get("operationId").text()) })
		if got := strings.Contains(p.logs.String(), "request_id=probe-"+o.get("operationId").text()); got != o.lists("header", "X-Request-Id") {
			t.Errorf("%s: X-Request-Id in the log: %t", o, got)
		}
		a = p.ask(t, o, func(r *http.Request) { r.Header.Set("Accept", "text/csv") })
		described := o.get("responses", "200", "content", "text/csv").exists()
		if got := strings.HasPrefix(a.header.Get("Content-Type"), "text/csv"); got != described {
			t.Errorf("%s: with Accept: text/csv the answer is %s", o, a.header.Get("Content-Type"))
		}
	}
	// The probes are for all parameters that there are.
	probed := []string{"asset", "runtimeId", "If-None-Match", "X-Request-Id"}
	probed = slices.Concat(probed, slices.Collect(maps.Keys(badQuery)), slices.Collect(maps.Keys(badHeader)))
	for _, o := range describedOperations(t) {
		for _, parameter := range o.parameters {
			if name := parameter.get("name").text(); !slices.Contains(probed, name) {
				t.Errorf("%s: %s has no probe", o, name)
			}
		}
	}
}

func TestBodyIsDescribed(t *testing.T) {
	t.Parallel()
	p := newProber(t)
	for _, o := range describedOperations(t) {
		if !o.get("requestBody").exists() {
			continue
		}
		send := func(body string, status int, says string) {
			a := p.ask(t, o, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(body)) })
			if a.status != status || !strings.Contains(a.body, says) {
				t.Errorf("%s: %.40s gives %d %s, want %d and %q", o, body, a.status, a.body, status, says)
			}
		}
		schema := o.get("requestBody", "content", "application/json", "schema")
		for _, name := range schema.get("properties").keys() {
			send(`{"`+name+`":1}`, http.StatusBadRequest, name)
			send(`{"`+name+`":"nothing such"}`, http.StatusBadRequest, name+" must be")
			send(`{"`+name+`":null}`, http.StatusOK, "")
		}
		example, ok := schema.get("example").value().(map[string]any)
		if !ok {
			t.Fatal("there is no example")
		}
		body, err := json.Marshal(example)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range example {
			send(string(body), http.StatusOK, fmt.Sprintf("%q:%q", name, value))
		}
		send(`{"other":1}`, http.StatusBadRequest, "nothing else")
		send("", http.StatusBadRequest, "JSON object")
		send(string(body)+strings.Repeat(" ", 16385), http.StatusRequestEntityTooLarge, "16384 bytes")
	}
}

func TestSecurityIsDescribed(t *testing.T) {
	t.Parallel()
	p := newProber(t)
	for _, o := range describedOperations(t) {
		free := !o.takes("bearer") && !o.takes("cookie")
		for name, test := range map[string]struct {
			change func(*http.Request)
			let    bool
		}{
			"none":   {func(r *http.Request) { r.Header.Del("Authorization") }, free},
			"bearer": {func(*http.Request) {}, true},
			"cookie": {func(r *http.Request) {
				r.Header.Del("Authorization")
				r.AddCookie(&http.Cookie{Name: "multica_auth", Value: token(t, owner)})
			}, free || o.takes("cookie")},
			"personal access token": {func(r *http.Request) {
				r.Header.Set("Authorization", "Bearer "+p.addAccessToken(t, owner))
			}, true},
		} {
			want := http.StatusOK
			if !test.let {
				want = http.StatusUnauthorized
			}
			if a := p.ask(t, o, test.change); a.status != want {
				t.Errorf("%s, %s: %d %s", o, name, a.status, a.body)
			}
		}
	}
}

// What the description says of days is so: the default and the limits.
func TestDaysAreDescribed(t *testing.T) {
	t.Parallel()
	p := newProber(t)
	for _, days := range []int{29, 30, 31, 89, 90, 91} {
		p.addUsage(t, p.runtime, "UTC", fmt.Sprintf("now() - interval '1 day' * %d - interval '1 second'", days), "p", "m", [4]int64{1, 1, 1, 1})
		// A second for a task that ends on that day.
		exec(t, p.pool, `UPDATE public.agent_task_queue SET started_at = completed_at - interval '1 second'`)
	}
	p.drain(t)
	p.onOneDay(t, "UTC", func() (difference string) {
		for _, o := range describedOperations(t) {
			days := o.parameter("query", "days")
			if !days.exists() {
				continue
			}
			with := func(days int) answer {
				return p.ask(t, o, func(r *http.Request) { r.URL.RawQuery += "&days=" + strconv.Itoa(days) })
			}
			number := func(key string) int {
				n, err := strconv.Atoi(days.get("schema", key).text())
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			byDefault, minimum, maximum := number("default"), number("minimum"), number("maximum")
			body := p.ask(t, o, func(*http.Request) {}).body
			if with(byDefault).body != body || with(byDefault-1).body == body || with(byDefault+1).body == body {
				difference += fmt.Sprintf("%s: the default is not %d\n", o, byDefault)
			}
			for days, status := range map[int]int{
				minimum: http.StatusOK, minimum - 1: http.StatusBadRequest, maximum: http.StatusOK, maximum + 1: http.StatusBadRequest,
			} {
				if a := with(days); a.status != status {
					difference += fmt.Sprintf("%s: days=%d gives %d\n", o, days, a.status)
				}
			}
		}
		return difference
	})
}

// A parameter that is new in the code must be described, which gives it a place in the tests above.
func TestEveryParameterThatTheCodeReadsIsDescribed(t *testing.T) {
	t.Parallel()
	d := openAPI(t)
	// OpenAPI leaves Accept and Authorization to what it says of content and security.
	described := map[string]bool{"Accept": true, "Authorization": true}
	for _, o := range describedOperations(t) {
		for _, p := range o.parameters {
			described[p.get("name").text()] = true
		}
	}
	for _, name := range d.get("components", "securitySchemes").keys() {
		if scheme := d.get("components", "securitySchemes", name); scheme.get("type").text() == "apiKey" {
			described[scheme.get("name").text()] = true
		}
	}
	read := namesThatTheCodeReads(t)
	// The router matches it as *, and who reads it is the server of the files.
	delete(described, "asset")
	delete(read, "*")
	for name := range read {
		if !described[name] {
			t.Errorf("the code reads %s, which is not described", name)
		}
	}
	for name := range described {
		if !read[name] {
			t.Errorf("%s is described, but the code does not read it", name)
		}
	}
}

// namesThatTheCodeReads finds the names in calls that read a request.
func namesThatTheCodeReads(t *testing.T) map[string]bool {
	t.Helper()
	var files []*ast.File
	constants := map[string]string{"RequestIDHeader": middleware.RequestIDHeader}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(gotoken.NewFileSet(), entry.Name(), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				for i, value := range spec.Values {
					if literal, ok := value.(*ast.BasicLit); ok && literal.Kind == gotoken.STRING {
						constants[spec.Names[i].Name], _ = strconv.Unquote(literal.Value)
					}
				}
			}
			return true
		})
	}
	read := make(map[string]bool)
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, name := range namesReadBy(t, call) {
				switch name := name.(type) {
				case *ast.BasicLit:
					literal, _ := strconv.Unquote(name.Value)
					read[literal] = true
				case *ast.Ident:
					// The parameter of orHeader, whose callers give the name, is no constant.
					if constant, ok := constants[name.Name]; ok {
						read[constant] = true
					}
				case *ast.SelectorExpr:
					read[constants[name.Sel.Name]] = true
				}
			}
			return true
		})
	}
	return read
}

// namesReadBy returns the arguments of a call that are names of parameters.
func namesReadBy(t *testing.T, call *ast.CallExpr) []ast.Expr {
	t.Helper()
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	switch method.Sel.Name {
	case "get", "Cookie":
		return call.Args[:1]
	case "orHeader", "URLParam":
		return call.Args[1:]
	case "Get", "Values":
		// r.Header is the request's, w.Header() the answer's.
		if of, ok := method.X.(*ast.SelectorExpr); ok && of.Sel.Name == "Header" {
			return call.Args
		}
	case "Cookies", "CookiesNamed", "FormValue", "PostFormValue", "PathValue", "Query", "Referer", "UserAgent", "BasicAuth":
		t.Errorf("the code calls %s, of which this test knows nothing", method.Sel.Name)
	}
	return nil
}

// The page at /docs loads nothing from elsewhere, and the description that it shows is this one.
func TestDocs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	get := func(path string) answer {
		a := b.do(t, http.MethodGet, path, nil)
		describe(t, http.MethodGet, path, nil, a.status, a.header, a.body)
		return a
	}
	if a := get("/openapi.yaml"); a.body != string(httpapi.OpenAPI) {
		t.Errorf("/openapi.yaml is %.200s", a.body)
	}
	page := get("/docs").body
	if get("/docs/").body != page {
		t.Error("/docs/ is another page than /docs")
	}
	if !strings.Contains(page, `"/openapi.yaml"`) {
		t.Errorf("the page does not show the description: %s", page)
	}
	loaded := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(loaded) < 3 {
		t.Errorf("the page loads only %v", loaded)
	}
	for _, match := range loaded {
		a := get(match[1])
		if !strings.HasPrefix(match[1], "/docs/") || a.status != http.StatusOK {
			t.Errorf("the page loads %s: %d", match[1], a.status)
		}
		if strings.HasSuffix(match[1], ".css") && regexp.MustCompile(`(?:url\(["']?|@import\s*["']?)(?:https?:)?//`).MatchString(a.body) {
			t.Errorf("%s loads from elsewhere", match[1])
		}
	}
	if a := get("/docs/nothing"); a.status != http.StatusNotFound {
		t.Errorf("/docs/nothing: %d", a.status)
	}
}

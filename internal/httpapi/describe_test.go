package httpapi_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"

	"daybook/internal/httpapi"
)

// describe fails unless an answer is as openapi.yaml says. Path is that of the request, with its query.
func describe(tb testing.TB, method, path string, requestHeader http.Header, status int, header http.Header, body string) {
	tb.Helper()
	if err := checkDescribed(method, path, requestHeader, status, header, body); err != nil {
		tb.Error(err)
	}
}

// checkDescribed is describe for other goroutines than the test's. Header and body are as a client sees them that asks for
// no compression.
func checkDescribed(method, path string, requestHeader http.Header, status int, header http.Header, body string) error {
	d, err := loadDescription()
	if err != nil {
		return err
	}
	if err := d.check(method, path, requestHeader, status, header, body); err != nil {
		return fmt.Errorf("%s %s: %d is not as described: %w; header: %v; body: %.500s", method, path, status, err, header, body)
	}
	return nil
}

// description is openapi.yaml, made ready to check answers against.
type description struct {
	node
	// routes has the described operations. It finds that of a request as the router does.
	routes *chi.Mux
	// paths are the described ones, by the pattern of the router.
	paths map[string]string
	// columns are those of CSV, by path.
	columns map[string][]column
}

// column is a property of the rows of an answer.
type column struct {
	name   string
	number bool
}

// methods are the keys of a path that are operations.
var methods = []string{"get", "head", "post", "put", "patch", "delete"}

var loadDescription = sync.OnceValues(func() (*description, error) {
	document, err := readDocument(httpapi.OpenAPI)
	if err != nil {
		return nil, err
	}
	d := &description{
		node: document.root, routes: chi.NewRouter(), paths: make(map[string]string), columns: make(map[string][]column),
	}
	for _, path := range d.get("paths").keys() {
		d.paths[routeOf(path)] = path
		for _, method := range d.get("paths", path).keys() {
			if slices.Contains(methods, method) {
				d.routes.MethodFunc(strings.ToUpper(method), routeOf(path), http.NotFound)
			}
		}
		d.columns[path] = columnsOf(d.get("paths", path, "get"))
	}
	return d, nil
})

// routeOf returns the pattern that the router has for a described path. OpenAPI knows no wildcard.
func routeOf(path string) string { return strings.Replace(path, "/docs/{asset}", "/docs/*", 1) }

// columnsOf returns the properties of the rows of an operation that answers with an array of objects, and nil for another.
func columnsOf(operation node) (columns []column) {
	properties := operation.get("responses", "200", "content", "application/json", "schema", "items", "properties")
	for _, name := range properties.keys() {
		columns = append(columns, column{name, slices.Contains(properties.get(name, "type").texts(), "integer")})
	}
	return columns
}

// find returns the described operation of a request. HEAD has that of GET.
func (d *description) find(method, path string) (pattern string, operation node, err error) {
	u, err := url.Parse(path)
	if err != nil {
		return "", node{}, err
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	pattern, ok := d.paths[d.routes.Find(chi.NewRouteContext(), method, u.EscapedPath())]
	if !ok {
		return "", node{}, nil
	}
	return pattern, d.get("paths", pattern, strings.ToLower(method)), nil
}

func (d *description) check(method, path string, requestHeader http.Header, status int, header http.Header, body string) error {
	pattern, operation, err := d.find(method, path)
	if err != nil {
		return err
	}
	if !operation.exists() {
		// There is no such route. Under /api that is not told before the caller is known and let in.
		expected := []int{http.StatusNotFound, http.StatusMethodNotAllowed}
		if path == "/api" || strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/api?") {
			expected = append(expected, http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable)
		}
		if !slices.Contains(expected, status) {
			return fmt.Errorf("the route is not described, so the status must be one of %v", expected)
		}
		// Such errors are like those of this operation, which has them all.
		if pattern, operation, err = d.find(http.MethodPatch, "/api/runtimes/x"); err != nil {
			return err
		}
	}
	described := operation.get("responses", strconv.Itoa(status))
	if !described.exists() {
		return errors.New("the status is not described")
	}
	if status == http.StatusNotModified && requestHeader.Get("If-None-Match") == "" {
		return errors.New("nobody asked whether it was modified")
	}
	if err := checkHeader(described, header); err != nil {
		return err
	}
	contentType := header.Get("Content-Type")
	if len(described.get("content").keys()) == 0 {
		if body != "" || contentType != "" {
			return errors.New("there is a body or its type, where none is described")
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("the type of the content is %q", contentType)
	}
	content := described.get("content", media)
	switch {
	case !content.exists():
		return errors.New("the type of the content is not described")
	case method == http.MethodHead:
		if body != "" {
			return errors.New("HEAD has a body")
		}
		return nil
	case media == "application/json":
		return checkJSON(content.get("schema"), body)
	case media == "text/csv":
		return d.checkCSV(strings.TrimSuffix(pattern, ".csv"), body)
	default:
		return nil
	}
}

// declares tells whether a response may have a header: it is described, or one that HTTP itself, compression or CORS adds to any.
func declares(described node, name string) bool {
	switch name {
	case "Accept-Ranges", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Vary":
		return true
	}
	if strings.HasPrefix(name, "Access-Control-") {
		return true
	}
	for _, declared := range described.get("headers").keys() {
		if http.CanonicalHeaderKey(declared) == name {
			return true
		}
	}
	return false
}

func checkHeader(described node, header http.Header) error {
	for name := range header {
		if !declares(described, name) {
			return fmt.Errorf("the header %s is not described", name)
		}
	}
	headers := described.get("headers")
	for _, name := range headers.keys() {
		values := header.Values(name)
		if len(values) == 0 {
			if headers.get(name, "required").text() == "true" {
				return fmt.Errorf("the header %s is missing", name)
			}
			continue
		}
		schema := headers.get(name, "schema")
		var value any = strings.Join(values, ", ")
		if types := schema.get("type").texts(); slices.Contains(types, "integer") || slices.Contains(types, "number") {
			if _, err := strconv.ParseFloat(values[0], 64); err != nil {
				return fmt.Errorf("the header %s is no number: %w", name, err)
			}
			value = json.Number(values[0])
		}
		if err := schema.validate(value); err != nil {
			return fmt.Errorf("the header %s: %w", name, err)
		}
	}
	return nil
}

// checkJSON checks a body against a schema.
func checkJSON(schema node, body string) error {
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("there is more than one value")
	}
	return schema.validate(value)
}

// checkCSV holds CSV to the schema of the JSON with the same rows.
func (d *description) checkCSV(pattern, body string) error {
	columns := d.columns[pattern]
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	if first := strings.Join(names, ",") + "\r\n"; !strings.HasPrefix(body, first) {
		return fmt.Errorf("the first line must be %q", first)
	}
	if !strings.HasSuffix(body, "\r\n") {
		return errors.New("the last line has no end")
	}
	// The names are the first record, so all others must have as many fields.
	records, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil {
		return err
	}
	rows := make([]map[string]any, 0, len(records))
	for _, record := range records[1:] {
		row := make(map[string]any, len(columns))
		for i, c := range columns {
			row[c.name] = record[i]
			if c.number {
				row[c.name] = json.Number(record[i])
			}
		}
		rows = append(rows, row)
	}
	asJSON, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return checkJSON(d.get("paths", pattern, "get", "responses", "200", "content", "application/json", "schema"), string(asJSON))
}

// exchange is a request with its answer, and what to change in the answer.
type exchange struct {
	method, path   string
	request        http.Header
	status         int
	header         http.Header
	body           string
	without, extra string // headers to remove, and to add as "Name: value"
	from, to       string // what to replace in the body
}

func (a exchange) check() error {
	header := a.header.Clone()
	header.Del(a.without)
	if name, value, ok := strings.Cut(a.extra, ": "); ok {
		header.Set(name, value)
	}
	return checkDescribed(a.method, a.path, a.request, a.status, header, strings.Replace(a.body, a.from, a.to, 1))
}

const (
	describedPath = "/api/runtimes/0190163d-8694-739b-aea5-966c26f8ad91/usage"
	describedRow  = `{"runtime_id":"0190163d-8694-739b-aea5-966c26f8ad91","date":"2026-11-23","provider":"p","model":"m",` +
		`"input_tokens":9223372036854775807,"output_tokens":2,"cache_read_tokens":3,"cache_write_tokens":4}`
	describedCSV = "runtime_id,date,provider,model,input_tokens,output_tokens,cache_read_tokens,cache_write_tokens\r\n" +
		"0190163d-8694-739b-aea5-966c26f8ad91,2026-11-23,p,\"m,\"\"n\",9223372036854775807,2,3,4\r\n"
)

func describedHeader(contentType string) http.Header {
	header := http.Header{
		"Daybook-Timezone": {"Europe/Berlin"}, "Daybook-Source": {"rollup"}, "Daybook-Lag-Seconds": {"0.412"},
		"Cache-Control": {"private"}, "Etag": {`W/"9ae16a3b2f90404f"`}, "Vary": {"Accept-Encoding", "Accept, Cookie"},
		"Date": {"Mon, 23 Nov 2026 19:00:00 GMT"},
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return header
}

func describedAnswers() map[string]exchange {
	jsonHeader := describedHeader("application/json; charset=utf-8")
	csvHeader := describedHeader("text/csv; charset=utf-8")
	errorHeader := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
	awayHeader := errorHeader.Clone()
	awayHeader.Set("Retry-After", "1")
	return map[string]exchange{
		"rows":       {method: "GET", path: describedPath + "?days=7", status: 200, header: jsonHeader, body: "[" + describedRow + "," + describedRow + "]\n"},
		"no rows":    {method: "GET", path: describedPath, status: 200, header: jsonHeader, body: "[]\n"},
		"head":       {method: "HEAD", path: describedPath, status: 200, header: jsonHeader},
		"CSV":        {method: "GET", path: describedPath, status: 200, header: csvHeader, body: describedCSV},
		"CSV by URL": {method: "GET", path: describedPath + ".csv", status: 200, header: csvHeader, body: describedCSV},
		"CSV head":   {method: "HEAD", path: describedPath + ".csv", status: 200, header: csvHeader},
		"not modified": {
			method: "GET", path: describedPath, request: http.Header{"If-None-Match": {"*"}}, status: 304, header: describedHeader(""),
		},
		"hours": {
			method: "GET", path: "/api/runtimes/x/activity", status: 200, header: jsonHeader, body: `[{"hour":23,"count":1}]`,
		},
		"error":     {method: "GET", path: describedPath, status: 400, header: errorHeader, body: `{"error":"days must be …"}`},
		"away":      {method: "GET", path: describedPath, status: 503, header: awayHeader, body: `{"error":"away","request_id":"ABC"}`},
		"no route":  {method: "GET", path: "/nothing", status: 404, header: errorHeader, body: `{"error":"not found"}`},
		"no method": {method: "POST", path: describedPath, status: 405, header: http.Header{"Content-Type": {"application/json"}, "Allow": {"GET"}}, body: `{"error":"not allowed"}`},
	}
}

func TestWhatIsDescribedPasses(t *testing.T) {
	t.Parallel()
	for name, a := range describedAnswers() {
		if err := a.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A check that can never fail is worth nothing.
func TestWhatIsNotDescribedFails(t *testing.T) {
	t.Parallel()
	good := describedAnswers()
	for name, change := range map[string]struct {
		of    string
		apply func(*exchange)
	}{
		"status":                  {"rows", func(a *exchange) { a.status = 201 }},
		"status without a body":   {"head", func(a *exchange) { a.status = 204 }},
		"type of content":         {"rows", func(a *exchange) { a.extra = "Content-Type: text/html" }},
		"no type of content":      {"rows", func(a *exchange) { a.without = "Content-Type" }},
		"header is missing":       {"rows", func(a *exchange) { a.without = "Daybook-Timezone" }},
		"header is wrong":         {"rows", func(a *exchange) { a.extra = "Daybook-Source: elsewhere" }},
		"header is no number":     {"rows", func(a *exchange) { a.extra = "Daybook-Lag-Seconds: soon" }},
		"header is too low":       {"rows", func(a *exchange) { a.extra = "Daybook-Lag-Seconds: -1" }},
		"header is strong":        {"rows", func(a *exchange) { a.extra = `Etag: "9ae16a3b2f90404f"` }},
		"header is more":          {"rows", func(a *exchange) { a.extra = "Daybook-Secret: 1" }},
		"header of another":       {"error", func(a *exchange) { a.extra = "Retry-After: 1" }},
		"field is missing":        {"rows", func(a *exchange) { a.from, a.to = `"provider":"p",`, "" }},
		"field is more":           {"rows", func(a *exchange) { a.from, a.to = `"provider"`, `"secret":1,"provider"` }},
		"field is null":           {"rows", func(a *exchange) { a.from, a.to = `"p"`, "null" }},
		"text for a number":       {"rows", func(a *exchange) { a.from, a.to = `:2,`, `:"2",` }},
		"number for text":         {"rows", func(a *exchange) { a.from, a.to = `"p"`, "1" }},
		"fraction":                {"rows", func(a *exchange) { a.from, a.to = `:2,`, `:2.5,` }},
		"more than 64 bits":       {"rows", func(a *exchange) { a.from, a.to = "5807", "5808" }},
		"no date":                 {"rows", func(a *exchange) { a.from, a.to = "2026-11-23", "2026-11-31" }},
		"time for a date":         {"rows", func(a *exchange) { a.from, a.to = "2026-11-23", "2026-11-23T00:00:00Z" }},
		"no UUID":                 {"rows", func(a *exchange) { a.from, a.to = "0190163d-", "0190163d" }},
		"wrong in the second row": {"rows", func(a *exchange) { a.from, a.to = "},{", `},{"secret":1,` }},
		"null for no rows":        {"no rows", func(a *exchange) { a.body = "null" }},
		"object for rows":         {"no rows", func(a *exchange) { a.body = "{}" }},
		"two values":              {"no rows", func(a *exchange) { a.body = "[][]" }},
		"no body":                 {"no rows", func(a *exchange) { a.body = "" }},
		"no JSON":                 {"no rows", func(a *exchange) { a.body = "[" }},
		"hour is too high":        {"hours", func(a *exchange) { a.from, a.to = "23", "24" }},
		"hour is too low":         {"hours", func(a *exchange) { a.from, a.to = "23", "-1" }},
		"head with a body":        {"head", func(a *exchange) { a.body = "[]\n" }},
		"CSV where there is none": {"no route", func(a *exchange) { a.header, a.body = describedHeader("text/csv"), describedCSV }},
		"JSON for CSV":            {"CSV by URL", func(a *exchange) { a.header, a.body = describedHeader("application/json"), "[]" }},
		"columns change places":   {"CSV", func(a *exchange) { a.from, a.to = "provider,model", "model,provider" }},
		"column is missing":       {"CSV", func(a *exchange) { a.from, a.to = ",cache_write_tokens", "" }},
		"column is more":          {"CSV by URL", func(a *exchange) { a.from, a.to = "tokens\r\n", "tokens,secret\r\n" }},
		"value is missing":        {"CSV by URL", func(a *exchange) { a.from, a.to = ",3,4", ",3" }},
		"text for a number, CSV":  {"CSV", func(a *exchange) { a.from, a.to = ",2,", ",two," }},
		"no date, CSV":            {"CSV by URL", func(a *exchange) { a.from, a.to = "2026-11-23", "23.11.2026" }},
		"LF":                      {"CSV", func(a *exchange) { a.from, a.to = "\r\n", "\n" }},
		"no CSV":                  {"CSV", func(a *exchange) { a.body = "" }},
		"304 that nobody asked":   {"not modified", func(a *exchange) { a.request = nil }},
		"304 with a body":         {"not modified", func(a *exchange) { a.body = "[]" }},
		"304 without a tag":       {"not modified", func(a *exchange) { a.without = "ETag" }},
		"304 with a type":         {"not modified", func(a *exchange) { a.extra = "Content-Type: application/json" }},
		"error without a message": {"error", func(a *exchange) { a.body = "{}" }},
		"error in other words":    {"error", func(a *exchange) { a.from, a.to = "error", "message" }},
		"error that tells more":   {"error", func(a *exchange) { a.to = `{"detail":"SELECT",`; a.from = "{" }},
		"request id of a 400":     {"error", func(a *exchange) { a.from, a.to = "{", `{"request_id":"ABC",` }},
		"503 without request id":  {"away", func(a *exchange) { a.from, a.to = `,"request_id":"ABC"`, "" }},
		"503 without Retry-After": {"away", func(a *exchange) { a.without = "Retry-After" }},
		"no route answers":        {"no route", func(a *exchange) { a.status = 200 }},
		"no route and no token":   {"no route", func(a *exchange) { a.status = 401 }},
		"no route, plain text":    {"no route", func(a *exchange) { a.extra = "Content-Type: text/plain" }},
		"no method, no Allow":     {"no method", func(a *exchange) { a.without = "Allow" }},
		"another operation":       {"rows", func(a *exchange) { a.path = "/api/runtimes/x/activity" }},
	} {
		a, ok := good[change.of]
		if !ok {
			t.Fatalf("%s: there is no answer %q", name, change.of)
		}
		change.apply(&a)
		if a.check() == nil {
			t.Errorf("%s: it passes", name)
		}
	}
}

// One description serves all tests.
func TestDescriptionIsForManyGoroutines(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for name, a := range describedAnswers() {
				if err := a.check(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if a.status++; a.check() == nil {
					t.Errorf("%s: another status passes", name)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkDescribe(b *testing.B) {
	good := describedAnswers()
	many := good["rows"]
	many.body = "[" + strings.Repeat(describedRow+",", 499) + describedRow + "]"
	good["500 rows"] = many
	for _, name := range []string{"rows", "500 rows", "CSV", "error"} {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			a := good[name]
			for b.Loop() {
				describe(b, a.method, a.path, a.request, a.status, a.header, a.body)
			}
		})
	}
}

// operation is one of the description, with the parameters of its path.
type operation struct {
	node
	method, path string
	parameters   []node
	security     node
}

func (o operation) String() string { return o.method + " " + o.path }

// parameter returns one by its name.
func (o operation) parameter(in, name string) node {
	i := slices.IndexFunc(o.parameters, func(p node) bool { return p.get("in").text() == in && p.get("name").text() == name })
	if i < 0 {
		return node{}
	}
	return o.parameters[i]
}

// lists tells whether the operation is described to have a parameter.
func (o operation) lists(in, name string) bool { return o.parameter(in, name).exists() }

// takes tells whether the operation is described to take a security scheme.
func (o operation) takes(scheme string) bool {
	return slices.ContainsFunc(o.security.list(), func(n node) bool { return n.child(scheme).exists() })
}

func openAPI(t *testing.T) *description {
	t.Helper()
	d, err := loadDescription()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func describedOperations(t *testing.T) (all []operation) {
	t.Helper()
	d := openAPI(t)
	for _, path := range d.get("paths").keys() {
		item := d.get("paths", path)
		for _, method := range item.keys() {
			if !slices.Contains(methods, method) {
				continue
			}
			o := operation{
				node: item.get(method), method: strings.ToUpper(method), path: path,
				parameters: slices.Concat(item.get("parameters").list(), item.get(method, "parameters").list()),
			}
			if o.security = o.get("security"); !o.security.exists() {
				o.security = d.get("security")
			}
			all = append(all, o)
		}
	}
	return all
}

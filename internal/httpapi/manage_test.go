package httpapi_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
)

// setupWrites is a host with the API, which may write, before it.
func setupWrites(t *testing.T) *bundle {
	t.Helper()
	return serveWithWrites(t, setup(t).pool)
}

func (b *bundle) patch(t *testing.T, user, runtime, body string) answer {
	t.Helper()
	return b.doBody(t, http.MethodPatch, "/api/runtimes/"+runtime, bearer(t, user), body)
}

func (b *bundle) delete(t *testing.T, user, runtime string) answer {
	t.Helper()
	return b.do(t, http.MethodDelete, "/api/runtimes/"+runtime, bearer(t, user))
}

// host is all that the host has, but for tokens: two that are the same mean that nothing was written.
func (b *bundle) host(t *testing.T) string {
	t.Helper()
	return query[string](t, b.pool, `
		SELECT coalesce(string_agg(row, E'\n' ORDER BY row), '') FROM (
			SELECT 'runtime ' || r || r.xmin FROM public.agent_runtime r
			UNION ALL SELECT 'agent ' || a || a.xmin FROM public.agent a
			UNION ALL SELECT 'task ' || q || q.xmin FROM public.agent_task_queue q
			UNION ALL SELECT 'usage ' || u || u.xmin FROM public.task_usage u
			UNION ALL SELECT 'rebuild ' || d FROM daybook.runtime_rebuild d) rows (row)`)
}

func (a answer) requireError(t *testing.T, status int, says string) {
	t.Helper()
	a.require(t, status)
	if !strings.Contains(a.body, says) || !strings.HasPrefix(a.body, `{"error":"`) {
		t.Errorf("body is %s, which does not say %q", a.body, says)
	}
}

func TestChangesAreOffByDefault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addUnused(t)
	before := b.host(t)
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		a := b.doBody(t, method, "/api/runtimes/"+id, bearer(t, owner), `{"timezone":"Asia/Tokyo"}`)
		a.requireError(t, http.StatusMethodNotAllowed, "method not allowed")
		if got := a.header.Values("Allow"); !slices.Equal(got, []string{"GET"}) {
			t.Errorf("%s: Allow is %q", method, got)
		}
	}
	if after := b.host(t); after != before {
		t.Errorf("host was\n%s\nand is\n%s", before, after)
	}
	b.get(t, owner, "/api/runtimes/"+id).require(t, http.StatusOK)

	b = serveWithWrites(t, b.pool)
	for path, allow := range map[string][]string{
		"/api/runtimes/" + id:        {"GET", "PATCH", "DELETE"},
		usagePath(id, ""):            {"GET"},
		"/api/runtimes":              {"GET"},
		usagePath(id, "") + ".csv":   {"GET"},
		"/api/dashboard/usage/daily": {"GET"},
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, "ODD"} {
			if slices.Contains(allow, method) {
				continue
			}
			a := b.doBody(t, method, path, bearer(t, owner), `{}`)
			a.requireError(t, http.StatusMethodNotAllowed, "method not allowed")
			if got := a.header.Values("Allow"); !slices.Equal(got, allow) {
				t.Errorf("%s %s: Allow is %q, want %q", method, path, got, allow)
			}
		}
	}
}

func TestBadChangesWriteNothing(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	exec(t, b.pool, `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = $1`, id)
	const object, zone, visibility = "the body must be a JSON object", "timezone must be the IANA name", "visibility must be private or public"
	type bad struct {
		body   string
		status int
		says   string
	}
	tests := map[string]bad{
		"empty":                  {``, 400, object},
		"blanks":                 {" \n", 400, object},
		"no JSON":                {`timezone=UTC`, 400, object},
		"half":                   {`{"timezone":"UTC"`, 400, object},
		"null":                   {`null`, 400, object},
		"array":                  {`["UTC"]`, 400, object},
		"text":                   {`"UTC"`, 400, object},
		"two values":             {`{"timezone":"UTC"}{"visibility":"public"}`, 400, object},
		"a value and garbage":    {`{"timezone":"UTC"} x`, 400, object},
		"unknown field":          {`{"timezone":"UTC","owner_id":"` + member + `"}`, 400, object},
		"unknown field alone":    {`{"name":"x"}`, 400, object},
		"zone is a number":       {`{"timezone":1}`, 400, object},
		"zone is an object":      {`{"timezone":{}}`, 400, object},
		"visibility is a number": {`{"timezone":"UTC","visibility":1}`, 400, object},
		"visibility is true":     {`{"visibility":true}`, 400, object},
		"visibility is empty":    {`{"visibility":""}`, 400, visibility},
		"visibility in capitals": {`{"visibility":"Public"}`, 400, visibility},
		"visibility is unknown":  {`{"visibility":"workspace"}`, 400, visibility},
		"good zone with it":      {`{"timezone":"Europe/Berlin","visibility":"workspace"}`, 400, visibility},
		"good visibility, zone":  {`{"timezone":"Mars/Olympus","visibility":"public"}`, 400, zone},
		"the other way round":    {`{"visibility":"public","timezone":"Mars/Olympus"}`, 400, zone},
		// A body may have 16384 bytes, whatever is in them.
		"16385 bytes of text":    {`{"timezone":"` + strings.Repeat("x", 16385-15) + `"}`, 413, "16384 bytes"},
		"16384 bytes of text":    {`{"timezone":"` + strings.Repeat("x", 16384-15) + `"}`, 400, zone},
		"16385 bytes of blanks":  {strings.Repeat(" ", 16385-18) + `{"timezone":"UTC"}`, 413, "16384 bytes"},
		"16385 bytes, at end":    {`{"timezone":"UTC"}` + strings.Repeat(" ", 16385-18), 413, "16384 bytes"},
		"a megabyte":             {`{"timezone":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "16384 bytes"},
		"zone, 10000 characters": {`{"timezone":"` + strings.Repeat("A/", 5000) + `"}`, 400, zone},
	}
	for _, name := range []string{
		"Local", "local", "localtime", "posixrules", "Factory", "posix/Europe/Paris", "right/Europe/Paris", "X-100", "X+100", "UTC+3", "UTC-3",
		"<+03>-3", "EST5", "PST", "PDT", "CEST", "MSK", "Z", "z", "+03", "+03:00", "-3", "3", "europe/paris", "EUROPE/PARIS", "utc", "gmt",
		"Mars/Olympus", "Europe", "Europe/", "/Europe/Paris", "Europe//Paris", "./UTC", "Europe/./Paris", "Europe/../UTC", "../etc/passwd",
		"../UTC", "/etc/localtime", `Europe\\Paris`, "zone.tab", "tzdata.zi", "iso3166.tab", "leapseconds", "+VERSION", " UTC", "UTC ", "UTC\\n",
		"UTC\\u0000", "\\u0000", "Europe/Paris\\u0000", "Europe/Z\\u00fcrich", "\\ud800", "' OR true --", "default", "system", "CST6CDT,M3.2.0,M11.1.0",
	} {
		tests["zone "+name] = bad{`{"timezone":"` + name + `"}`, 400, zone}
	}
	before := b.host(t)
	for name, test := range tests {
		a := b.patch(t, owner, id, test.body)
		if a.status != test.status || !strings.HasPrefix(a.body, `{"error":"`) || !strings.Contains(a.body, test.says) {
			t.Errorf("%s: status is %d, want %d and %q; body %s", name, a.status, test.status, test.says, a.body)
		}
		if after := b.host(t); after != before {
			t.Errorf("%s: host was\n%s\nand is\n%s", name, before, after)
			before = after
		}
	}
}

// runtimeAnswer is the answer to a PATCH, written down here again so that a changed name shows.
type runtimeAnswer struct {
	ID           string          `json:"id"`
	WorkspaceID  string          `json:"workspace_id"`
	DaemonID     *string         `json:"daemon_id"`
	Name         string          `json:"name"`
	RuntimeMode  string          `json:"runtime_mode"`
	Provider     string          `json:"provider"`
	LaunchHeader string          `json:"launch_header"`
	Status       string          `json:"status"`
	DeviceInfo   string          `json:"device_info"`
	Metadata     json.RawMessage `json:"metadata"`
	OwnerID      *string         `json:"owner_id"`
	Visibility   string          `json:"visibility"`
	Timezone     string          `json:"timezone"`
	LastSeenAt   *string         `json:"last_seen_at"`
	CreatedAt    string          `json:"created_at"`
	UpdatedAt    string          `json:"updated_at"`
	CanEdit      *bool           `json:"can_edit,omitempty"`
	CanUse       *bool           `json:"can_use,omitempty"`
}

// decodeStrictly fails if a field is unknown, or absent.
func decodeStrictly[T any](t *testing.T, body string) (value T) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	again, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	// The same fields in the same order, and nothing that one of the two has and the other has not.
	if string(again)+"\n" != body {
		t.Errorf("body is\n%swant\n%s", body, again)
	}
	return value
}

func TestChange(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id, untouched := b.addUnused(t), b.addUnused(t)
	other := query[string](t, b.pool, `SELECT agent_runtime::text FROM public.agent_runtime WHERE id = $1`, untouched)
	for _, test := range []struct{ body, zone, visibility string }{
		{`{"timezone":"Europe/Berlin"}`, "Europe/Berlin", "private"},
		{`{"visibility":"public"}`, "Europe/Berlin", "public"},
		{`{"timezone":"Etc/GMT+5","visibility":"private"}`, "Etc/GMT+5", "private"},
		{`{"timezone":"America/Argentina/Buenos_Aires","visibility":null}`, "America/Argentina/Buenos_Aires", "private"},
		{`{"timezone":null,"visibility":"public"}`, "America/Argentina/Buenos_Aires", "public"},
		{`{"timezone":""}`, "UTC", "public"},
		{`{"timezone":"EST5EDT"}`, "EST5EDT", "public"},
		{` {"visibility":"public", "timezone":"\u0055TC"}` + "\r\n\t ", "UTC", "public"},
		{`{"timezone":"Asia/Kathmandu"}` + strings.Repeat(" ", 16384-29), "Asia/Kathmandu", "public"},
	} {
		exec(t, b.pool, `UPDATE public.agent_runtime SET updated_at = '2020-01-01' WHERE id = $1`, id)
		begin := query[time.Time](t, b.pool, `SELECT date_trunc('second', clock_timestamp())`)
		a := b.patch(t, owner, id, test.body)
		a.require(t, http.StatusOK)
		object := decodeStrictly[runtimeAnswer](t, a.body)
		if object.ID != id || object.Name != "unused" || object.Timezone != test.zone || object.Visibility != test.visibility {
			t.Errorf("%s: answer is %s", test.body, a.body)
		}
		if object.CanEdit == nil || !*object.CanEdit || object.CanUse == nil || !*object.CanUse {
			t.Errorf("%s: it does not say that the caller may: %s", test.body, a.body)
		}
		if updated, err := time.Parse(time.RFC3339, object.UpdatedAt); err != nil || updated.Before(begin) {
			t.Errorf("%s: updated_at is %s, before %s; %v", test.body, object.UpdatedAt, begin, err)
		}
		stored := query[string](t, b.pool, `SELECT timezone || ' ' || visibility || ' ' || (updated_at > '2020-01-02') FROM public.agent_runtime WHERE id = $1`, id)
		if stored != test.zone+" "+test.visibility+" true" {
			t.Errorf("%s: stored is %s", test.body, stored)
		}
		// The next read says the same.
		if got := b.get(t, owner, "/api/runtimes/"+id); got.body != a.body {
			t.Errorf("%s: answer is\n%sbut the next read\n%s", test.body, a.body, got.body)
		}
	}
	if now := query[string](t, b.pool, `SELECT agent_runtime::text FROM public.agent_runtime WHERE id = $1`, untouched); now != other {
		t.Errorf("another runtime was %s and is %s", other, now)
	}
	// Nothing to change changes nothing.
	exec(t, b.pool, `UPDATE public.agent_runtime SET updated_at = '2020-01-01' WHERE id = $1`, id)
	before := b.host(t)
	for _, body := range []string{`{}`, `{"timezone":null,"visibility":null}`} {
		a := b.patch(t, owner, id, body)
		a.require(t, http.StatusOK)
		if decodeStrictly[runtimeAnswer](t, a.body).Timezone != "Asia/Kathmandu" {
			t.Errorf("%s: answer is %s", body, a.body)
		}
	}
	if after := b.host(t); after != before {
		t.Errorf("host was\n%s\nand is\n%s", before, after)
	}
}

// A condition on a change is for reads alone: the answer to a change says what became of it.
func TestConditionDoesNotHideAChange(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	header := bearer(t, owner)
	header.Set("If-None-Match", "*")
	a := b.doBody(t, http.MethodPatch, "/api/runtimes/"+id, header, `{"visibility":"public"}`)
	stored := query[string](t, b.pool, `SELECT visibility FROM public.agent_runtime WHERE id = $1`, id)
	if (a.status == http.StatusOK) != (stored == "public") {
		t.Errorf("visibility is %s after status %d, body %q", stored, a.status, a.body)
	}
}

func TestOneStatementWritesBoth(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	b, s, _ := watch(t, admin.pool)
	id := admin.addUnused(t)
	for _, body := range []string{
		`{"timezone":"Europe/Berlin","visibility":"public"}`, `{"timezone":"Europe/Paris"}`, `{"visibility":"private"}`,
	} {
		s.take()
		b.patch(t, owner, id, body).require(t, http.StatusOK)
		b.settle()
		_, own := s.take()
		writes := 0
		for _, sql := range own {
			if strings.Contains(sql, "UPDATE public.") && !strings.HasPrefix(sql, "prepare ") {
				writes++
			}
		}
		if writes != 1 {
			t.Errorf("%s: %d statements write: %q", body, writes, own)
		}
	}
}

func TestWhoMayChange(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	// A second member, whom the runtime does not belong to, and one who has left but owns it.
	const second = "00000000-0000-4000-8000-0000000000c2"
	exec(t, b.pool, `INSERT INTO public."user" (id, email) VALUES ($1, 'second')`, second)
	exec(t, b.pool, `INSERT INTO public.member (workspace_id, user_id, role) VALUES ('00000000-0000-4000-8000-000000000001', $1, 'member')`, second)
	for _, owned := range []string{"", owner, member, outsider, stranger} {
		for _, visibility := range []string{"private", "public"} {
			for user, status := range map[string]int{
				owner: 200, admin: 200, member: 403, second: 403, stranger: 404, outsider: 404, nobody: 404,
			} {
				if owned == member && user == member {
					status = http.StatusOK
				}
				id := b.addUnused(t)
				exec(t, b.pool, `UPDATE public.agent_runtime SET owner_id = nullif($2, '')::uuid, visibility = $3 WHERE id = $1`, id, owned, visibility)
				before := b.host(t)
				if a := b.patch(t, user, id, `{"timezone":"Asia/Tokyo"}`); a.status != status {
					t.Errorf("PATCH by %s of one of %q: status is %d, want %d; body %s", user, owned, a.status, status, a.body)
				}
				if b.host(t) != before != (status == http.StatusOK) {
					t.Errorf("PATCH by %s of one of %q, with status %d: the host is not what it must be", user, owned, status)
				}
				before = b.host(t)
				if a := b.delete(t, user, id); a.status != status {
					t.Errorf("DELETE by %s of one of %q: status is %d, want %d; body %s", user, owned, a.status, status, a.body)
				}
				if b.host(t) != before != (status == http.StatusOK) {
					t.Errorf("DELETE by %s of one of %q, with status %d: the host is not what it must be", user, owned, status)
				}
			}
		}
	}
	// By a personal access token it is the same.
	id := b.addUnused(t)
	for user, status := range map[string]int{member: 403, stranger: 404, owner: 200} {
		header := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, user)}}
		if a := b.doBody(t, http.MethodPatch, "/api/runtimes/"+id, header, `{"timezone":"Asia/Tokyo"}`); a.status != status {
			t.Errorf("PATCH by the token of %s: status is %d, want %d; body %s", user, a.status, status, a.body)
		}
	}
	for _, path := range []string{"/api/runtimes/x", "/api/runtimes/" + strings.ReplaceAll(id, "-", "")} {
		for _, method := range []string{http.MethodPatch, http.MethodDelete} {
			b.doBody(t, method, path, bearer(t, owner), `{}`).requireError(t, http.StatusBadRequest, "the runtime id must be a UUID")
		}
	}
}

// event is what listeners hear.
type event struct {
	Event       string `json:"event"`
	RuntimeID   string `json:"runtime_id"`
	WorkspaceID string `json:"workspace_id"`
}

func TestListenersAreTold(t *testing.T) {
	t.Parallel()
	b := setupWrites(t)
	id := b.addUnused(t)
	listener, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close(context.WithoutCancel(t.Context()))
	if _, err := listener.Exec(t.Context(), `LISTEN daybook_runtime`); err != nil {
		t.Fatal(err)
	}
	// next is what is heard next.
	next := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), awaitTimeout)
		defer cancel()
		notification, err := listener.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("nothing is heard: %v", err)
		}
		return notification.Payload
	}
	requireEvent := func(name string) {
		t.Helper()
		payload := next()
		want := event{name, id, "00000000-0000-4000-8000-000000000001"}
		if got := decodeStrictly[event](t, payload+"\n"); got != want {
			t.Errorf("payload is %s, want %+v", payload, want)
		}
		// Who hears of it finds it done.
		done := query[bool](t, b.pool, `SELECT CASE $2 WHEN 'deleted' THEN count(*) = 0 ELSE bool_and(timezone = 'Asia/Tokyo') END
			FROM public.agent_runtime WHERE id = $1`, id, name)
		if !done {
			t.Errorf("%s is heard before it is done", name)
		}
	}

	b.patch(t, owner, id, `{"timezone":"Asia/Tokyo"}`).require(t, http.StatusOK)
	requireEvent("updated")
	b.patch(t, owner, id, `{"visibility":"public"}`).require(t, http.StatusOK)
	requireEvent("updated")

	// What is refused is not heard: the next that is comes from here.
	agent := query[string](t, b.pool, `INSERT INTO public.agent (workspace_id, runtime_id)
		VALUES ('00000000-0000-4000-8000-000000000001', $1) RETURNING id::text`, id)
	b.patch(t, member, id, `{"timezone":"UTC"}`).require(t, http.StatusForbidden)
	b.patch(t, stranger, id, `{"timezone":"UTC"}`).require(t, http.StatusNotFound)
	b.patch(t, owner, nobody, `{"timezone":"UTC"}`).require(t, http.StatusNotFound)
	b.patch(t, owner, id, `{"timezone":"Mars/Olympus"}`).require(t, http.StatusBadRequest)
	b.patch(t, owner, id, `{"timezone":"UTC","visibility":"x"}`).require(t, http.StatusBadRequest)
	b.delete(t, member, id).require(t, http.StatusForbidden)
	b.delete(t, stranger, id).require(t, http.StatusNotFound)
	b.delete(t, owner, id).require(t, http.StatusConflict)
	exec(t, b.pool, `SELECT pg_notify('daybook_runtime', 'all is quiet')`)
	if got := next(); got != "all is quiet" {
		t.Errorf("a change that is refused is heard of: %s", got)
	}

	exec(t, b.pool, `UPDATE public.agent SET archived_at = now() WHERE id = $1`, agent)
	b.delete(t, owner, id).require(t, http.StatusOK)
	requireEvent("deleted")
}

// A connection for changes is not one for reads, nor the other way round.
func TestReadsDoNotUseTheWritePool(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	id := admin.addUnused(t)
	writePool := testdb.Open(t, admin.pool)
	readPool := testdb.Open(t, admin.pool, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	})
	b := serve(t, readPool, withWritePool(writePool))
	for _, pattern := range readPatterns {
		if a := b.get(t, owner, pathOf(pattern, id)); a.status != http.StatusOK {
			t.Errorf("%s: status is %d, body %s", pattern, a.status, a.body)
		}
	}
	if n := writePool.Stat().AcquireCount(); n != 0 {
		t.Errorf("reads have used %d connections for changes", n)
	}
	b.patch(t, owner, id, `{"timezone":"Asia/Tokyo"}`).require(t, http.StatusOK)
	b.delete(t, owner, id).require(t, http.StatusOK)
}

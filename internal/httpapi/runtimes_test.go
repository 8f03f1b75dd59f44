package httpapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// addOrdered adds runtimes of acme, each created as long ago as its place says, in another order than that of their ids.
func (b *bundle) addOrdered(t *testing.T, names string, owners map[string]string) {
	t.Helper()
	for i, name := range strings.Split(names, "") {
		exec(t, b.pool, `
			INSERT INTO public.agent_runtime (id, workspace_id, name, provider, created_at, owner_id)
			VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000001', $1, 'p', '2020-01-01Z'::timestamptz + $2 * interval '1 microsecond', nullif($3, '')::uuid)`,
			name, i, owners[name])
	}
}

func namesOf(t *testing.T, a answer) (names string) {
	t.Helper()
	a.require(t, http.StatusOK)
	for _, object := range decodeStrictly[[]runtimeAnswer](t, a.body) {
		names += object.Name
		if object.CanEdit != nil || object.CanUse != nil {
			t.Errorf("the list says what the caller may do with each: %s", a.body)
		}
	}
	return names
}

func TestRuntimesAreListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := func(user, query string) answer { return b.get(t, user, "/api/runtimes?workspace_slug=acme"+query) }
	for _, query := range []string{"", "&owner=me"} {
		a := list(member, query)
		a.require(t, http.StatusOK)
		if a.body != "[]\n" {
			t.Errorf("%s: body is %s", query, a.body)
		}
	}
	b.addOrdered(t, "gcaebdfh", map[string]string{"g": member, "b": member, "c": owner, "h": stranger})
	exec(t, b.pool, `INSERT INTO public.agent_runtime (workspace_id, name, provider, owner_id) VALUES ('00000000-0000-4000-8000-000000000002', 'x', 'p', $1)`, member)
	for _, test := range []struct{ user, query, names string }{
		{owner, "", "gcaebdfh"},
		{member, "", "gcaebdfh"},
		{member, "&owner=me", "gb"},
		{owner, "&owner=me", "c"},
		{admin, "&owner=me", ""},
		{member, "&workspace_id=00000000-0000-4000-8000-000000000002", "gcaebdfh"},
	} {
		if got := namesOf(t, list(test.user, test.query)); got != test.names {
			t.Errorf("%s of %s: names are %q, want %q", test.query, test.user, got, test.names)
		}
	}
	header := http.Header{"Authorization": {"Bearer " + b.addAccessToken(t, member)}}
	if got := namesOf(t, b.do(t, http.MethodGet, "/api/runtimes?workspace_slug=acme&owner=me", header)); got != "gb" {
		t.Errorf("by access token: names are %q", got)
	}
	// One that owns a runtime there and is no member.
	list(stranger, "&owner=me").require(t, http.StatusNotFound)
	for _, query := range []string{"&owner=other", "&owner=", "&owner", "&owner=ME", "&owner=" + member, "&owner=me&owner=me", "&owner=me%00"} {
		list(member, query).requireError(t, http.StatusBadRequest, "owner must be me, or left out for all runtimes of the workspace")
	}
	list(member, "&%zz").requireError(t, http.StatusBadRequest, "the query string is malformed")

	// Where all were created at once, the order is the same each time.
	exec(t, b.pool, `UPDATE public.agent_runtime SET created_at = '2020-01-01Z'`)
	first := list(member, "")
	exec(t, b.pool, `UPDATE public.agent_runtime SET status = 'online' WHERE name IN ('a', 'e')`) // It moves their rows.
	if second := list(member, ""); namesOf(t, first) != namesOf(t, second) {
		t.Errorf("names were %q and are %q", namesOf(t, first), namesOf(t, second))
	}
}

func TestRuntimeObject(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const id = "0190163d-8694-739b-aea5-966c26f8ad91"
	exec(t, b.pool, `ALTER TABLE public.agent_runtime ALTER metadata DROP NOT NULL, ALTER device_info DROP NOT NULL`)
	exec(t, b.pool, `
		INSERT INTO public.agent_runtime (id, workspace_id, name, provider, metadata, device_info, created_at, updated_at)
		VALUES ($1, '00000000-0000-4000-8000-000000000001', 'bare', 'p', NULL, NULL, '2024-02-29 23:59:59.999999+05', '2024-12-31 20:00:00.5-05')`, id)
	const bare = `{"id":"0190163d-8694-739b-aea5-966c26f8ad91","workspace_id":"00000000-0000-4000-8000-000000000001",` +
		`"daemon_id":null,"name":"bare","runtime_mode":"local","provider":"p","launch_header":"","status":"offline","device_info":"",` +
		`"metadata":{},"owner_id":null,"visibility":"private","timezone":"UTC","last_seen_at":null,` +
		`"created_at":"2024-02-29T18:59:59Z","updated_at":"2025-01-01T01:00:00Z"`
	const full = `{"id":"0190163d-8694-739b-aea5-966c26f8ad91","workspace_id":"00000000-0000-4000-8000-000000000001",` +
		`"daemon_id":"d-1","name":"\u003cn\u003e \"ü\" 📓","runtime_mode":"cloud","provider":"claude","launch_header":"claude (stream-json)",` +
		`"status":"online","device_info":"box","metadata":{"a":{"b":[1,null]},"n":12345678901234567890.5},` +
		`"owner_id":"00000000-0000-4000-8000-00000000000c","visibility":"public","timezone":"Local",` +
		`"last_seen_at":"2024-06-30T23:30:00Z","created_at":"2024-02-29T18:59:59Z","updated_at":"2025-01-01T01:00:00Z"`
	require := func(want string) {
		t.Helper()
		a := b.get(t, owner, "/api/runtimes/"+id)
		a.require(t, http.StatusOK)
		if a.body != want+`,"can_edit":true,"can_use":true}`+"\n" {
			t.Errorf("body is\n%swant\n%s", a.body, want)
		}
		a = b.get(t, owner, "/api/runtimes?workspace_slug=acme")
		a.require(t, http.StatusOK)
		if a.body != "["+want+"}]\n" {
			t.Errorf("list is\n%swant\n%s", a.body, want)
		}
	}
	require(bare)
	// There are two nulls that it can be.
	exec(t, b.pool, `UPDATE public.agent_runtime SET metadata = 'null'`)
	require(bare)
	exec(t, b.pool, `
		UPDATE public.agent_runtime SET daemon_id = 'd-1', name = '<n> "ü" 📓', runtime_mode = 'cloud', provider = 'claude', status = 'online',
			device_info = 'box', metadata = '{"n": 12345678901234567890.5, "a": {"b": [1, null]}}', owner_id = $1, visibility = 'public',
			timezone = 'Local', last_seen_at = '2024-07-01 05:00+05:30'`, member)
	require(full)
	// Of a time that is on no calendar there is nothing to say.
	exec(t, b.pool, `UPDATE public.agent_runtime SET last_seen_at = '-infinity'`)
	require(strings.Replace(full, `"2024-06-30T23:30:00Z"`, "null", 1))
}

func TestWhatTheCallerMayDo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addUnused(t)
	for _, owned := range []string{"", owner, member, stranger} {
		for _, visibility := range []string{"private", "public"} {
			exec(t, b.pool, `UPDATE public.agent_runtime SET owner_id = nullif($2, '')::uuid, visibility = $3 WHERE id = $1`, id, owned, visibility)
			for _, user := range []string{owner, admin, member} {
				edit := user != member || owned == member
				use := edit || visibility == "public"
				for _, header := range []http.Header{bearer(t, user), {"Authorization": {"Bearer " + b.addAccessToken(t, user)}}} {
					a := b.do(t, http.MethodGet, "/api/runtimes/"+id, header)
					a.require(t, http.StatusOK)
					object := decodeStrictly[runtimeAnswer](t, a.body)
					if object.CanEdit == nil || *object.CanEdit != edit || object.CanUse == nil || *object.CanUse != use {
						t.Errorf("%s of a %s one of %q: want can_edit %t, can_use %t; body %s", user, visibility, owned, edit, use, a.body)
					}
				}
			}
			// To own it, or that it is public, lets nobody in who is no member.
			b.get(t, stranger, "/api/runtimes/"+id).require(t, http.StatusNotFound)
		}
	}
	// A role that is only known elsewhere.
	exec(t, b.pool, `INSERT INTO public.member (workspace_id, user_id, role) VALUES ('00000000-0000-4000-8000-000000000002', $1, 'owner')`, member)
	a := b.get(t, member, "/api/runtimes/"+id)
	if object := decodeStrictly[runtimeAnswer](t, a.body); *object.CanEdit {
		t.Errorf("an owner of another workspace may edit: %s", a.body)
	}
}

func TestLaunchHeader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addUnused(t)
	for provider, want := range map[string]string{
		"claude": "claude (stream-json)", "codex": "codex app-server", "copilot": "copilot (json)", "cursor": "cursor-agent (stream-json)",
		"gemini": "gemini (stream-json)", "hermes": "hermes acp", "openclaw": "openclaw agent (json)", "opencode": "opencode run (json)",
		"pi": "pi (json mode)", "kimi": "kimi acp", "kiro": "kiro-cli acp",
		"": "", "unknown": "", "Claude": "", "claude ": "", "constructor": "",
	} {
		exec(t, b.pool, `UPDATE public.agent_runtime SET provider = $2 WHERE id = $1`, id, provider)
		a := b.get(t, owner, "/api/runtimes/"+id)
		a.require(t, http.StatusOK)
		if object := decodeStrictly[runtimeAnswer](t, a.body); object.Provider != provider || object.LaunchHeader != want {
			t.Errorf("%q: launch_header is %q, want %q", provider, object.LaunchHeader, want)
		}
	}
}

// Times are in UTC, whatever the database, the connection or this machine is in.
func TestTimesAreInUTC(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.addUnused(t)
	exec(t, b.pool, `UPDATE public.agent_runtime SET last_seen_at = now() WHERE id = $1`, id)
	want := query[time.Time](t, b.pool, `SELECT date_trunc('second', last_seen_at) FROM public.agent_runtime WHERE id = $1`, id)
	name := query[string](t, b.pool, `SELECT current_database()`)
	exec(t, b.pool, `ALTER DATABASE "`+name+`" SET timezone = 'Asia/Kathmandu'`)
	exec(t, b.pool, `ALTER DATABASE "`+name+`" SET datestyle = 'German'`)
	b.pool.Reset()
	a := b.get(t, owner, "/api/runtimes/"+id)
	a.require(t, http.StatusOK)
	object := decodeStrictly[runtimeAnswer](t, a.body)
	if object.LastSeenAt == nil || *object.LastSeenAt != want.UTC().Format("2006-01-02T15:04:05Z") {
		t.Errorf("want %s; body %s", want, a.body)
	}
}

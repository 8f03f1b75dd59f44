package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
)

const (
	secret = "a secret of the tests, 32 bytes or more"
	user   = "00000000-0000-4000-8000-00000000000a"
	// soon is how long a test waits for what should happen at once.
	soon = 20 * time.Second
)

// asCommand is set for a process that is to be the command rather than its tests.
const asCommand = "DAYBOOK_TEST_API"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	// What the developer has set must not decide what is tested.
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); name == "JWT_SECRET" || strings.HasPrefix(name, "DAYBOOK_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

type result struct {
	code           int
	stdout, stderr string
}

func call(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// require checks the exit code, that something is on stderr exactly when it failed, and what is said.
func (r result) require(t *testing.T, code int, said ...string) {
	t.Helper()
	if r.code != code || (r.stderr == "") != (code == 0) {
		t.Errorf("code is %d, want %d; stdout %q, stderr %q", r.code, code, r.stdout, r.stderr)
	}
	for _, s := range said {
		if !strings.Contains(r.stdout+r.stderr, s) {
			t.Errorf("it does not say %q: stdout %q, stderr %q", s, r.stdout, r.stderr)
		}
	}
	if strings.Contains(r.stdout+r.stderr, secret) {
		t.Error("it says the secret")
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	tokens, err := httpapi.NewTokens(t.Context(), httpapi.TokenConfig{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, "token", "--user", user, "--jwt-secret", secret)
	r.require(t, 0)
	id, err := tokens.Verify(t.Context(), strings.TrimSuffix(r.stdout, "\n"))
	if err != nil || id.String() != user {
		t.Errorf("token %q is for %s, %v", r.stdout, id, err)
	}
	r = call(t, "token", "--user", user, "--jwt-secret", secret, "--ttl", "1ns")
	r.require(t, 0)
	for _, test := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"token", "--jwt-secret", secret}, 2, "--user"},
		{[]string{"token", "--jwt-secret", secret, "--user", "me"}, 1, `--user: "me" is not a UUID`},
		{[]string{"token", "--jwt-secret", secret, "--user", strings.ReplaceAll(user, "-", "")}, 1, "not a UUID"},
		{[]string{"token", "--jwt-secret", secret, "--user", user, "--ttl", "0s"}, 1, "--ttl must be more than 0"},
		{[]string{"token", "--jwt-secret", secret, "--user", user, "--ttl=-1h"}, 1, "--ttl must be more than 0"},
		{[]string{"token", "--jwt-secret", secret, "--user", user, "--ttl", "soon"}, 2, "--ttl"},
	} {
		r := call(t, test.args...)
		r.require(t, test.code, test.said)
		if r.stdout != "" {
			t.Errorf("%q: stdout is %q", test.args, r.stdout)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	call(t, "--help").require(t, 0, "JWT_SECRET", "DAYBOOK_LOG_LEVEL", "serve", "token")
	call(t, "serve", "--help").require(t, 0, "--addr", "127.0.0.1:8080", "DAYBOOK_API_ADDR", "DATABASE_URL")
	call(t, "token", "--help").require(t, 0, "--user", "--ttl", "24h")
}

func TestBadFlags(t *testing.T) {
	t.Parallel()
	url := "--database-url=postgres://u@127.0.0.1:1/d"
	for _, test := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"--nothing"}, 2, "--nothing"},
		{[]string{"nothing"}, 2, "nothing"},
		{[]string{"serve", url}, 2, "neither JWT_SECRET nor DAYBOOK_JWKS_URL is set"},
		{[]string{url}, 2, "neither JWT_SECRET nor DAYBOOK_JWKS_URL is set"},
		{[]string{"token", "--user", user}, 2, "JWT_SECRET is not set"},
		{[]string{"token", "--user", user, "--jwt-secret", "short"}, 2, "JWT_SECRET has 5 bytes and must have 32 or more"},
		{[]string{"serve", url, "--jwt-secret="}, 2, "neither JWT_SECRET nor DAYBOOK_JWKS_URL is set"},
		{[]string{"serve", url, "--jwt-secret=0123456789012345678901234567890"}, 2, "JWT_SECRET has 31 bytes and must have 32 or more"},
		{[]string{"serve", url, "--jwks-url", "keys.example"}, 2, "DAYBOOK_JWKS_URL must be an http or https URL"},
		{[]string{"serve", url, "--jwt-secret", secret, "--jwt-algorithms", "RS256"}, 2, `algorithm "RS256" cannot be verified`},
		{[]string{"serve", url, "--jwt-secret", secret, "--jwt-algorithms", "none"}, 2, `algorithm "none" cannot be verified`},
		{[]string{"serve", url, "--jwt-secret", secret, "--jwt-leeway", "61s"}, 2, "must be from 0 to 1m0s"},
		{[]string{"serve", url, "--jwt-secret", secret, "--allow-writes"}, 2, "--allow-writes needs --write-database-url"},
		{[]string{"serve", url, "--jwt-secret", secret, "--write-database-url=postgres://u@h/d"}, 2, "of no use without --allow-writes"},
		{[]string{"serve", url, "--jwt-secret", secret, "--allow-writes", "--write-database-url=postgres://u@h:port/d"}, 1, "DAYBOOK_API_WRITE_DATABASE_URL: "},
		{[]string{"serve", url, "--jwt-secret", secret, "--cors-origin", "*"}, 2, "--cors-origin must be as https://example.com"},
		{[]string{"serve", url, "--jwt-secret", secret, "--cors-origin", "https://example.com/"}, 2, "--cors-origin must be as https://example.com"},
		{[]string{"serve", url, "--jwt-secret", secret, "--source", "both"}, 2, "--source"},
		{[]string{"serve", url, "--jwt-secret", secret, "--timeout", "1ms"}, 2, "--timeout must be 100ms or more"},
		{[]string{"serve", url, "--jwt-secret", secret, "--max-requests", "0"}, 2, "--max-requests must be 1 or more"},
		{[]string{"serve", "--database-url=", "--jwt-secret", secret}, 2, "DATABASE_URL is empty"},
		{[]string{"serve", "--database-url=postgres://u:hidden@h:port/d", "--jwt-secret", secret}, 1, "DATABASE_URL: "},
		{[]string{"serve", url, "--jwt-secret", secret, "--log-level", "loud"}, 2, "--log-level"},
		{[]string{"serve", url, "--jwt-secret", secret, "--log-format", "xml"}, 2, "--log-format"},
		{[]string{"serve", url, "--jwt-secret", secret, "--addr", "127.0.0.1:x"}, 1, "choose another address"},
	} {
		r := call(t, test.args...)
		r.require(t, test.code, test.said)
		if r.stdout != "" {
			t.Errorf("%q: stdout is %q", test.args, r.stdout)
		}
		if strings.Contains(r.stderr, "hidden") {
			t.Errorf("it says the password: %q", r.stderr)
		}
	}
}

func TestOccupiedPort(t *testing.T) {
	t.Parallel()
	taken := listen(t, "127.0.0.1:0").Addr().String()
	const free = "127.0.0.1:0"
	for _, test := range []struct{ addr, metricsAddr, said string }{
		{taken, free, "choose another address with --addr or DAYBOOK_API_ADDR"},
		{free, taken, "choose another address with --metrics-addr or DAYBOOK_API_METRICS_ADDR"},
	} {
		call(t, "--database-url=postgres://u@127.0.0.1:1/d", "--jwt-secret", secret, "--addr", test.addr, "--metrics-addr", test.metricsAddr).
			require(t, 1, taken, "address already in use", test.said)
	}
}

// api is a running command.
type api struct {
	url    string
	stderr *watched
	done   chan int
}

// start runs the command with args, with an address of its own and without the word serve, which is the default.
func start(ctx context.Context, t *testing.T, args ...string) *api {
	t.Helper()
	a := &api{stderr: newWatched(t), done: make(chan int, 1)}
	args = append(args, "--jwt-secret", secret, "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")
	go func() { a.done <- run(ctx, args, io.Discard, a.stderr) }()
	a.url = "http://" + a.stderr.await(t, `msg=listening server=api addr=(\S+)`)
	return a
}

// watched is a log that one can wait for.
type watched struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
}

// newWatched is shown if the test fails.
func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{changed: make(chan struct{})}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := w.read()
			t.Logf("log of the api:\n%s", text)
		}
	})
	return w
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.buf.Write(p)
}

func (w *watched) read() (string, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String(), w.changed
}

// await waits until the log matches, and returns the first group of the match.
func (w *watched) await(t *testing.T, pattern string) string {
	t.Helper()
	timeout := time.After(soon)
	for {
		text, changed := w.read()
		if match := regexp.MustCompile(pattern).FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %s in the log:\n%s", pattern, text)
		}
	}
}

// awaitEnd waits until the command returns, and checks that all was well.
func (a *api) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case got := <-a.done:
		if got != 0 {
			text, _ := a.stderr.read()
			t.Errorf("code is %d, want 0; stderr:\n%s", got, text)
		}
	case <-time.After(soon):
		t.Fatal("it does not end")
	}
}

// get asks over a connection of its own.
func (a *api) get(ctx context.Context, path, token string) (int, string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return 0, "", err
	}
	request.Close = true
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func (a *api) require(t *testing.T, path, token string, status int) {
	t.Helper()
	if got, body, err := a.get(t.Context(), path, token); err != nil || got != status {
		t.Fatalf("%s: status is %d, want %d, %v; %s", path, got, status, err, body)
	}
}

// await asks until the answer has the status.
func (a *api) await(t *testing.T, path, token string, status int, within time.Duration) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(within)
	for {
		got, body, err := a.get(t.Context(), path, token)
		if err == nil && got == status {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s: status is still %d after %s, want %d, %v; %s", path, got, within, status, err, body)
		}
	}
}

// host is a host with one runtime, and its member's token.
func host(t *testing.T) (pool *pgxpool.Pool, path, token string) {
	t.Helper()
	pool = testdb.New(t)
	var runtime string
	err := pool.QueryRow(t.Context(), `
		WITH u AS (INSERT INTO public."user" (id, email) VALUES ($1, 'u') RETURNING id),
		w AS (INSERT INTO public.workspace (slug) VALUES ('w') RETURNING id),
		m AS (INSERT INTO public.member (workspace_id, user_id, role) SELECT w.id, u.id, 'member' FROM w, u)
		INSERT INTO public.agent_runtime (workspace_id, name, provider) SELECT id, 'r', 'p' FROM w RETURNING id::text`, user).Scan(&runtime)
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, "token", "--user", user, "--jwt-secret", secret)
	r.require(t, 0)
	return pool, "/api/runtimes/" + runtime + "/usage", strings.TrimSpace(r.stdout)
}

func TestServeIsTheDefault(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url", pool.Config().ConnString())
	a.require(t, "/healthz", "", http.StatusOK)
	a.require(t, "/readyz", "", http.StatusOK)
	a.require(t, path, token, http.StatusOK)
	a.require(t, path, "", http.StatusUnauthorized)
	var named bool
	err := pool.QueryRow(t.Context(), `SELECT count(*) > 0 FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'daybook-api'`).Scan(&named)
	if err != nil || !named {
		t.Errorf("no connection is called daybook-api: %v", err)
	}
	stop()
	a.awaitEnd(t)
}

func TestShortSecretIsForDemosOnly(t *testing.T) {
	t.Parallel()
	call(t, "--database-url=postgres://u@127.0.0.1:1/d", "--jwt-secret=hunter2").require(t, 2, "JWT_SECRET has 7 bytes and must have 32 or more")
	pool, path, _ := host(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	// Of two of a flag the last counts, so the one of start is left out.
	a := &api{stderr: newWatched(t), done: make(chan int, 1)}
	go func() {
		a.done <- run(ctx, []string{
			"--demo", "--jwt-secret=hunter2", "--database-url", pool.Config().ConnString(), "--addr=127.0.0.1:0", "--metrics-addr=127.0.0.1:0",
		}, io.Discard, a.stderr)
	}()
	a.url = "http://" + a.stderr.await(t, `msg=listening server=api addr=(\S+)`)
	token := call(t, "token", "--demo", "--user", user, "--jwt-secret=hunter2")
	token.require(t, 0)
	a.require(t, path, strings.TrimSpace(token.stdout), http.StatusOK)
	stop()
	a.awaitEnd(t)
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	r := call(t, "openapi")
	r.require(t, 0, "openapi: 3.1")
	if r.stdout != string(httpapi.OpenAPI) {
		t.Error("it is not the embedded description")
	}
}

func TestStopLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url", pool.Config().ConnString())
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `LOCK TABLE public.member`); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		status, body, err := a.get(t.Context(), path, token)
		if err == nil && (status != http.StatusOK || body != "[]\n") {
			err = errors.New(body)
		}
		answered <- err
	}()
	awaitLocked(t, tx)
	stop()
	a.stderr.await(t, `msg="api stopping"`)
	select {
	case err := <-answered:
		t.Errorf("it answered while it had to wait: %v", err)
	case code := <-a.done:
		t.Errorf("it ended with %d before the answer", code)
	default:
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the last answer: %v", err)
	}
	a.awaitEnd(t)
	if _, _, err := a.get(t.Context(), "/healthz", ""); err == nil {
		t.Error("it still answers")
	}
}

// awaitLocked waits until a statement of the api waits for a lock.
func awaitLocked(t *testing.T, tx pgx.Tx) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for waiting := false; !waiting; {
		err := tx.QueryRow(ctx, `SELECT EXISTS (
			SELECT FROM pg_locks l WHERE NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))`).
			Scan(&waiting)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// The command itself, with its settings in the environment, and a signal.
func TestSIGTERM(t *testing.T) {
	t.Parallel()
	pool, path, token := host(t)
	command, log, a := startProcess(t, pool.Config().ConnString())
	a.require(t, path, token, http.StatusOK)
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		text, _ := log.read()
		t.Errorf("%v; stderr:\n%s", err, text)
	}
	log.await(t, `"msg":"api stopping"`)
}

// startProcess starts the api as a process of its own, which logs as JSON, and returns it when it listens.
func startProcess(t *testing.T, databaseURL string) (*exec.Cmd, *watched, *api) {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	log := newWatched(t)
	command.Stderr = log
	command.Env = append(os.Environ(), asCommand+"=1", "JWT_SECRET="+secret, "DAYBOOK_API_ADDR=127.0.0.1:0", "DAYBOOK_API_METRICS_ADDR=127.0.0.1:0",
		"DATABASE_URL="+databaseURL, "DAYBOOK_LOG_FORMAT=json")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, log, &api{url: "http://" + log.await(t, `"msg":"listening","server":"api","addr":"([^"]+)"`)}
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// It starts, and stops, without a database.
func TestStartWithoutADatabase(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	a := start(ctx, t, "--database-url=postgres://u@127.0.0.1:1/d")
	a.require(t, "/healthz", "", http.StatusOK)
	a.require(t, "/readyz", "", http.StatusServiceUnavailable)
	stop()
	a.awaitEnd(t)
}

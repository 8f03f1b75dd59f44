package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"daybook/internal/httpapi"
	"daybook/internal/testdb"
)

func TestStatusOf(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "relation secret"} }
	for _, test := range []struct {
		err    error
		status int
	}{
		{errors.New("anything"), 500},
		{pg(""), 500},
		{pg("4"), 500},
		{pg("22003"), 500}, // out of range
		{pg("25006"), 500}, // read-only transaction
		{pg("3F000"), 500}, // no such schema
		{pg("42501"), 500}, // not allowed
		{pg("42601"), 500}, // syntax
		{pg("42P01"), 500}, // no such table
		{pg("XX000"), 500},
		{pg("08000"), 503},
		{pg("08006"), 503},
		{pg("40001"), 503}, // also a standby's conflict with recovery
		{pg("40P01"), 503}, // deadlock
		{pg("55P03"), 503}, // lock_timeout
		{pg("53100"), 503}, // disk full
		{pg("53300"), 503}, // too many connections
		{pg("57014"), 503}, // cancelled
		{pg("57P01"), 503}, // shutting down
		{pg("57P02"), 503}, // crashed
		{pg("57P03"), 503}, // starting up
		{context.Canceled, 503},
		{context.DeadlineExceeded, 503},
		{io.EOF, 503},
		{io.ErrUnexpectedEOF, 503},
		{puddle.ErrClosedPool, 503},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, 503},
		{&net.DNSError{Err: "no such host"}, 503},
		{os.ErrDeadlineExceeded, 503},
		{&pgconn.ConnectError{}, 503},
	} {
		for _, err := range []error{test.err, wrapped{test.err}} {
			status, message := httpapi.StatusOf(err)
			if status != test.status {
				t.Errorf("%T of %#v: %d, want %d", err, test.err, status, test.status)
			}
			if want := map[int]string{500: "internal error", 503: "the database is not available; try again"}[status]; message != want {
				t.Errorf("%T of %#v: message is %q, want %q", err, test.err, message, want)
			}
		}
	}
}

// wrapped wraps an error without printing it, for an empty ConnectError cannot be printed.
type wrapped struct{ err error }

func (wrapped) Error() string   { return "read usage" }
func (w wrapped) Unwrap() error { return w.err }

// requireAway checks an answer while the database is away.
func (a answer) requireAway(t *testing.T) {
	t.Helper()
	a.require(t, http.StatusServiceUnavailable)
	a.requireGolden(t, "unavailable")
	if got := a.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
	if a.took >= 3*time.Second {
		t.Errorf("it took %s", a.took)
	}
}

const anyRuntime = "0190163d-8694-739b-aea5-966c26f8ad91"

// ask asks for usage with an id of the request's own, which golden files can hold.
func (b *bundle) ask(t *testing.T, path string) answer {
	t.Helper()
	return b.do(t, http.MethodGet, path, http.Header{
		"Authorization": {"Bearer " + token(t, owner)}, "X-Request-Id": {"request-of-a-test"},
	})
}

func TestClosedPool(t *testing.T) {
	t.Parallel()
	pool := testdb.Open(t, testdb.NewHost(t))
	pool.Close()
	b := serve(t, pool)
	b.ask(t, usagePath(anyRuntime, "")).requireAway(t)
	b.ask(t, "/readyz").requireAway(t)
	b.ask(t, "/healthz").require(t, http.StatusOK)
}

func TestPortWhereNobodyListens(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	listener.Close()
	b := serve(t, poolAt(t, listener.Addr()))
	b.ask(t, usagePath(anyRuntime, "")).requireAway(t)
	b.ask(t, "/readyz").requireAway(t)
}

// The system takes connections for a listener that nobody serves, and nothing ever comes back.
func TestServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	pool := poolAt(t, listener.Addr())
	b := serve(t, pool)
	b.ask(t, usagePath(anyRuntime, "")).requireAway(t)
	listener.Close()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// poolAt is a pool for a server at another address than the test's.
func poolAt(t *testing.T, addr net.Addr) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig("postgres://u@" + addr.String() + "/secret?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestPoolWithoutAFreeConnection(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	runtime := admin.addRuntime(t, "UTC")
	pool := testdb.Open(t, admin.pool, func(c *pgxpool.Config) { c.MaxConns = 1 })
	b := serve(t, pool)
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.ask(t, usagePath(runtime, "")).requireAway(t)
	conn.Release()
	b.ask(t, usagePath(runtime, "")).require(t, http.StatusOK)
}

func TestStatementThatTakesTooLong(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	tx := b.lockMembers(t)
	b.ask(t, usagePath(runtime, "")).requireAway(t)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.ask(t, usagePath(runtime, "")).require(t, http.StatusOK)
}

// lockMembers makes every answer wait until the transaction ends.
func (b *bundle) lockMembers(t *testing.T) pgx.Tx {
	t.Helper()
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	if _, err := tx.Exec(t.Context(), `LOCK TABLE public.member`); err != nil {
		t.Fatal(err)
	}
	return tx
}

func TestServerThatEndsConnections(t *testing.T) {
	t.Parallel()
	admin := setup(t)
	runtime := admin.addRuntime(t, "UTC")
	b := serve(t, testdb.Open(t, admin.pool, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["application_name"] = "api"
	}))
	admin.lockMembers(t)
	done := make(chan answer, 1)
	header := http.Header{"Authorization": {"Bearer " + token(t, owner)}, "X-Request-Id": {"request-of-a-test"}}
	go func() {
		a, err := b.send(t.Context(), http.MethodGet, usagePath(runtime, ""), header)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	const end = `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'api' AND wait_event_type = 'Lock'`
	var a answer
	for answered := false; !answered; {
		select {
		case a = <-done:
			answered = true
		default:
			query[int](t, admin.pool, end)
		}
	}
	a.requireAway(t)
	if a.took > 2*time.Second {
		t.Errorf("it took %s, so it waited for the timeout", a.took)
	}
}

func TestDatabaseWithoutDaybook(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	exec(t, pool, populateSQL)
	b := serve(t, pool)
	a := b.ask(t, usagePath(b.addRuntime(t, "UTC"), ""))
	a.require(t, http.StatusInternalServerError)
	a.requireGolden(t, "internal")
	ready := b.ask(t, "/readyz")
	ready.require(t, http.StatusServiceUnavailable)
	ready.requireGolden(t, "not_ready")
	for _, inside := range []string{"SQLSTATE 3F000", "run: worker migrate up", "request-of-a-test"} {
		if !strings.Contains(b.logs.String(), inside) {
			t.Errorf("the log does not say %q", inside)
		}
	}
}

// panicker panics when a connection is asked for.
type panicker struct{ pgx.QueryTracer }

func (panicker) TraceAcquireStart(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireStartData) context.Context {
	panic("something secret")
}

func (panicker) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {}

func TestPanic(t *testing.T) {
	t.Parallel()
	b := serve(t, testdb.Open(t, testdb.NewHost(t), func(c *pgxpool.Config) { c.ConnConfig.Tracer = panicker{} }))
	a := b.ask(t, usagePath(anyRuntime, ""))
	a.require(t, http.StatusInternalServerError)
	a.requireGolden(t, "internal")
	for _, inside := range []string{"something secret", "TraceAcquireStart", "request-of-a-test", "status=500"} {
		if !strings.Contains(b.logs.String(), inside) {
			t.Errorf("the log does not say %q", inside)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	b := serve(t, testdb.Open(t, testdb.NewHost(t), func(c *pgxpool.Config) { c.ConnConfig.Tracer = panicker{} }))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, given := range []string{"", "", "with space", "<b>", strings.Repeat("x", 65)} {
		header := http.Header{"Authorization": {"Bearer " + token(t, owner)}}
		if given != "" {
			header.Set("X-Request-Id", given)
		}
		a := b.do(t, http.MethodGet, usagePath(anyRuntime, ""), header)
		a.require(t, http.StatusInternalServerError)
		_, id, _ := strings.Cut(a.body, `"request_id":"`)
		id, _, _ = strings.Cut(id, `"`)
		if id == "" || id == given || seen[id] || strings.Contains(a.body, host) || !strings.Contains(b.logs.String(), id) {
			t.Errorf("given %q: body is %s", given, a.body)
		}
		seen[id] = true
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	runtime := b.addRuntime(t, "UTC")
	auth := http.Header{"Authorization": {"Bearer " + token(t, owner)}}
	for path, header := range map[string]http.Header{
		"/": nil, "/nothing": nil, "/api/": auth, "/api/nothing": auth, usagePath(runtime, "") + "/": auth, "/api/runtimes.csv": auth,
	} {
		a := b.do(t, http.MethodGet, path, header)
		a.require(t, http.StatusNotFound)
		a.requireGolden(t, "not_found")
	}
	for path, header := range map[string]http.Header{"/healthz": nil, usagePath(runtime, "days=7"): auth} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
			a := b.do(t, method, path, header)
			a.require(t, http.StatusMethodNotAllowed)
			a.requireGolden(t, "method_not_allowed")
			if got := a.header.Values("Allow"); len(got) != 1 || got[0] != http.MethodGet {
				t.Errorf("%s %s: Allow is %q", method, path, got)
			}
		}
	}
	b.do(t, http.MethodPost, usagePath(runtime, ""), nil).require(t, http.StatusUnauthorized)
	for _, path := range []string{"/healthz", "/readyz"} {
		a := b.do(t, http.MethodGet, path, nil)
		a.require(t, http.StatusOK)
		a.requireGolden(t, "ok")
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	if _, err := httpapi.New(httpapi.Config{}); err == nil {
		t.Error("an empty Config is taken")
	}
}

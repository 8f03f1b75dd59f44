//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/history"
	"daybook/internal/localpg"
	"daybook/internal/testdb"
	"daybook/migrations"
	"daybook/queries"
	"daybook/rollup"
)

const (
	// fresh is the lag that users are promised.
	fresh = 3 * time.Second
	// recovery is how long after a fault is over the lag may take to be fresh again, if nothing else is said: a second until the
	// next tick, some for the backlog, and up to 3 s until Postgres has ended transactions that stand still.
	recovery = 8 * time.Second
	// patience is after how long a test gives up. It says nothing about how fast something is.
	patience = 15 * time.Minute
)

// starting is held while a server starts: one of them changes PATH for it.
var starting sync.Mutex

// startServer starts a server of the test's own.
func startServer(t *testing.T, config localpg.Config) *localpg.Server {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	return startServerLocked(t, config)
}

func startServerLocked(t *testing.T, config localpg.Config) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 24
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// install makes the database of a server a host with Daybook.
func install(t *testing.T, server *localpg.Server) *pgxpool.Pool {
	t.Helper()
	pool := connect(t, server.URL())
	if err := demo.CreateHost(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

// fill gives the host tasks with usage, and counts them.
func fill(t *testing.T, pool *pgxpool.Pool, size demo.Size) {
	t.Helper()
	if err := demo.Fill(t.Context(), pool, size); err != nil {
		t.Fatal(err)
	}
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	execute(t, pool, `VACUUM ANALYZE`)
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%.80s: %v", sql, err)
	}
}

func query[T any](t *testing.T, pool *pgxpool.Pool, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%.80s: %v", sql, err)
	}
	return v
}

// urlOf is the URL of the pool's database, changed by parameters such as application_name=x.
func urlOf(t *testing.T, pool *pgxpool.Pool, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i+1 < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// await polls until done returns true, and returns how long that took.
func await(t *testing.T, what string, done func() (bool, error)) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	took, err := poll(ctx, done)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return took
}

func poll(ctx context.Context, done func() (bool, error)) (time.Duration, error) {
	start := time.Now()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done()
		if err != nil || ok {
			return time.Since(start), err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("waited in vain: %w", ctx.Err())
		}
	}
}

// awaitQuery polls until the statement returns true.
func awaitQuery(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	await(t, sql, func() (bool, error) { return query[bool](t, pool, sql, args...), nil })
}

// awaitSettled waits until nothing is left to do.
func awaitSettled(t *testing.T, pool *pgxpool.Pool) time.Duration {
	t.Helper()
	return await(t, "an empty queue", func() (bool, error) {
		pending, err := history.Pending(t.Context(), pool)
		return !pending, err
	})
}

// requireExact fails the test unless nothing waits, nothing is set aside, and every rollup equals the source, both by
// plain GROUP BYs and in the eyes of Verify.
func requireExact(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	awaitSettled(t, pool)
	testdb.RequireExact(t, pool)
	result, err := rollup.Verify(t.Context(), pool, rollup.Verification{})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Differences) > 0 || result.Quarantined > 0 {
		t.Fatalf("verify found %v, and %d tasks in quarantine", result.Differences, result.Quarantined)
	}
}

// passes waits for a while, for a fault that lasts as long.
func passes(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// lagWatch samples the lag on a connection of its own, which no fault touches.
type lagWatch struct {
	stop    context.CancelFunc
	done    chan struct{}
	samples []lagSample
}

type lagSample struct {
	at      time.Time
	seconds float64
	known   bool
}

func watchLag(t *testing.T, pool *pgxpool.Pool) *lagWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &lagWatch{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			asked, cancel := context.WithTimeout(ctx, 5*time.Second)
			lag, err := queries.New(pool).GetLag(asked)
			cancel()
			if ctx.Err() != nil {
				return
			}
			w.samples = append(w.samples, lagSample{time.Now(), lag.Seconds, err == nil})
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-w.done })
	return w
}

// ends ends the watch. It returns the largest lag that was seen, and how long after healed the lag was last 3 s or more, or not known.
func (w *lagWatch) ends(healed time.Time) (largest, recovered time.Duration) {
	w.stop()
	<-w.done
	for _, s := range w.samples {
		lag := time.Duration(s.seconds * float64(time.Second))
		largest = max(largest, lag)
		if (!s.known || lag >= fresh) && s.at.After(healed) {
			recovered = s.at.Sub(healed)
		}
	}
	return largest, recovered
}

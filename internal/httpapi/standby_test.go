//go:build cluster

package httpapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/localpg"
	"daybook/jobs"
	"daybook/migrations"
	"daybook/queries"
)

// replica is a host with workers, and a hot standby of it with the API before that.
type replica struct {
	*bundle // its pool is the primary's
	standby *pgxpool.Pool
}

func setupReplica(t *testing.T) *replica {
	t.Helper()
	start := func(config localpg.Config) *localpg.Server {
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
	connect := func(server *localpg.Server) *pgxpool.Pool {
		pool, err := pgxpool.New(t.Context(), server.URL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	settings := map[string]string{"max_prepared_transactions": "2"}
	first := start(localpg.Config{Ephemeral: true, Settings: settings})
	primary := connect(first)
	if err := demo.CreateHost(t.Context(), primary); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), primary); err != nil {
		t.Fatal(err)
	}
	exec(t, primary, populateSQL)
	standby := connect(start(localpg.Config{Ephemeral: true, Settings: settings, StandbyOf: first.URL()}))
	b := serve(t, standby)
	b.pool = primary
	return &replica{bundle: b, standby: standby}
}

// work runs a worker on the primary until the function that it returns is called.
func (r *replica) work(t *testing.T) (stop func()) {
	t.Helper()
	fleet, err := jobs.New(jobs.Config{Pool: r.pool, Logger: slog.New(slog.DiscardHandler), Tick: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := fleet.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// awaitReplay waits until the standby shows all that the primary has committed.
func (r *replica) awaitReplay(t *testing.T) {
	t.Helper()
	written := query[string](t, r.pool, `SELECT pg_current_wal_insert_lsn()::text`)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !query[bool](t, r.standby, `SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, written) {
		<-ticker.C
	}
}

// awaitLag asks until the answer says a lag that is good.
func (r *replica) awaitLag(t *testing.T, path string, good func(seconds float64) bool) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	header := http.Header{"Authorization": {"Bearer " + token(t, owner)}}
	for {
		a, err := r.send(ctx, http.MethodGet, path, header)
		if err != nil {
			t.Fatal(err)
		}
		a.require(t, http.StatusOK)
		if seconds, err := strconv.ParseFloat(a.header.Get("Daybook-Lag-Seconds"), 64); err == nil && good(seconds) {
			return a
		}
	}
}

// A standby serves everything, and its lag is that of what it shows: of the queue, or of itself when that is older.
func TestStandby(t *testing.T) {
	t.Parallel()
	r := setupReplica(t)
	stop := r.work(t)
	runtime := r.addRuntime(t, "Asia/Tokyo")
	r.addUsage(t, runtime, "", "now()", "p", "first", [4]int64{1, 1, 1, 1})
	r.awaitReplay(t)
	path := usagePath(runtime, "")
	a := r.awaitLag(t, path, func(seconds float64) bool { return seconds < 3 })
	for len(rowsOf(t, a)) == 0 {
		a = r.awaitLag(t, path, func(seconds float64) bool { return seconds < 3 })
	}
	for _, pattern := range append([]string{"/api/runtimes", "/api/runtimes/{runtimeId}"}, usagePatterns...) {
		r.get(t, owner, pathOf(pattern, runtime)).require(t, http.StatusOK)
	}
	r.get(t, "", "/readyz").require(t, http.StatusOK)

	// It does not replay: what it shows grows old, though the queue that it shows is empty.
	exec(t, r.standby, `SELECT pg_wal_replay_pause()`)
	r.addUsage(t, runtime, "", "now()", "p", "second", [4]int64{1, 1, 1, 1})
	a = r.awaitLag(t, path, func(seconds float64) bool { return seconds > 4 })
	if n := len(rowsOf(t, a)); n != 1 {
		t.Errorf("%d rows, want the one from before", n)
	}
	exec(t, r.standby, `SELECT pg_wal_replay_resume()`)
	a = r.awaitLag(t, path, func(seconds float64) bool { return seconds < 3 })
	if n := len(rowsOf(t, a)); n != 2 {
		t.Errorf("%d rows, want both", n)
	}

	// Without workers, changes wait in the queue, which the standby shows.
	stop()
	r.addUsage(t, runtime, "", "now()", "p", "third", [4]int64{1, 1, 1, 1})
	r.awaitLag(t, path, func(seconds float64) bool { return seconds > 2 })
}

// What keeps old versions of rows without being a session: a transaction that is prepared, a standby that tells what it reads, and its slot.
func TestStandbyAndPreparedTransactionsHoldBackCleanup(t *testing.T) {
	t.Parallel()
	r := setupReplica(t)
	holder := func() queries.GetCleanupHeldRow {
		held, err := queries.New(r.pool).GetCleanupHeld(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	await := func(what string, good func(queries.GetCleanupHeldRow) bool) {
		t.Helper()
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		deadline := time.Now().Add(time.Minute)
		for held := holder(); !good(held); held = holder() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, held)
			}
			<-ticker.C
		}
	}
	write := func() {
		exec(t, r.pool, `UPDATE daybook.zone_check SET revision = revision + 1`)
	}
	await("nothing", func(h queries.GetCleanupHeldRow) bool { return h.Seconds == 0 && h.Holder == "" && h.Visible })

	// One session: the pool's connections are others.
	conn, err := r.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`BEGIN`, `UPDATE daybook.zone_check SET revision = revision`, `PREPARE TRANSACTION 'left behind'`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	conn.Release()
	await("a prepared transaction", func(h queries.GetCleanupHeldRow) bool {
		return h.Seconds > 0 && h.Pid == 0 && h.Name == "left behind" && h.Holder == "prepared transaction left behind"
	})
	exec(t, r.pool, `ROLLBACK PREPARED 'left behind'`)

	r.awaitReplay(t)
	tx, err := r.standby.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `SELECT FROM daybook.zone_check`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{`ALTER SYSTEM SET hot_standby_feedback = on`, `ALTER SYSTEM SET wal_receiver_status_interval = '1s'`, `SELECT pg_reload_conf()`} {
		exec(t, r.standby, sql)
	}
	for range 3 {
		write()
	}
	await("a standby", func(h queries.GetCleanupHeldRow) bool {
		return strings.HasPrefix(h.Holder, "standby ") && h.Transactions >= 3 && h.Seconds == 0
	})
	exec(t, r.pool, `SELECT pg_create_physical_replication_slot('of_the_standby')`)
	for _, sql := range []string{`ALTER SYSTEM SET primary_slot_name = 'of_the_standby'`, `SELECT pg_reload_conf()`} {
		exec(t, r.standby, sql)
	}
	await("a slot", func(h queries.GetCleanupHeldRow) bool {
		return h.Holder == "replication slot of_the_standby" && h.Transactions >= 3
	})
}

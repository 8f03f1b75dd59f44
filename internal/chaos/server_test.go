//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/localpg"
)

// postmaster is the process of the server in a folder of localpg, or 0.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		t.Fatalf("postmaster.pid says %q", first)
	}
	return pid
}

// stopImmediately ends the server as a crash would, without a checkpoint, and returns once it is gone.
func stopImmediately(t *testing.T, dir string) {
	t.Helper()
	pid := postmaster(t, dir)
	if pid == 0 {
		t.Fatal("there is no server to stop")
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	await(t, "the server's end", func() (bool, error) { return syscall.Kill(pid, 0) != nil, nil })
}

// serverDir is a folder for a server of the test's own that the server's account can reach.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "daybook-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir) //nolint:errcheck // A temporary folder.
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestServerStopped stops Postgres immediately and starts it again, over and over, while the host writes and workers drain.
func TestServerStopped(t *testing.T) {
	t.Parallel()
	const name = "Postgres stopped immediately and started again"
	dir := serverDir(t)
	config := localpg.Config{Dir: dir}
	server := startServer(t, config)
	pool := install(t, server)
	fill(t, pool, demo.Size{Tasks: byLength(20_000, 1200)})
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	load := startLoad(t, pool, 300)
	var longest time.Duration
	rounds := byLength(5, 1)
	for range rounds {
		watch := watchLag(t, pool)
		passes(t.Context(), 2*time.Second)
		stopImmediately(t, dir)
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		passes(t.Context(), time.Second)
		server = startServer(t, config)
		healed := time.Now()
		passes(t.Context(), 5*time.Second)
		_, recovered := watch.ends(healed)
		longest = max(longest, recovered)
	}
	written, failed := load.stop()
	note(t, name, "rounds under load", fmt.Sprintf("%d, %d writes, %d refused meanwhile", rounds, written, failed), "")
	noteTime(t, name, "lag under 3 s after the server was back", longest, recovery)
	requireExact(t, pool)
	retire(t, workers...)
}

// TestStandbyPromoted loses the primary before all of it is replicated, and promotes a standby. Host, workers and lag go
// by a URL with both hosts.
func TestStandbyPromoted(t *testing.T) {
	t.Parallel()
	const name = "standby promoted, URL with both hosts"
	dir := serverDir(t)
	first := startServer(t, localpg.Config{Dir: dir})
	primary := install(t, first)
	fill(t, primary, demo.Size{Tasks: byLength(20_000, 1200)})
	second := startServer(t, localpg.Config{Dir: serverDir(t), StandbyOf: first.URL()})
	standby := connect(t, second.URL())
	hosts := bothHosts(t, first, second)
	pool := connect(t, hosts)
	workers := []*worker{startWorker(t, hosts), startWorker(t, hosts)}
	load := startLoad(t, pool, 300)
	watch := watchLag(t, pool)
	passes(t.Context(), 3*time.Second)

	// From now on nothing is replicated any more.
	execute(t, standby, `ALTER SYSTEM SET primary_conninfo = ''`)
	execute(t, standby, `SELECT pg_reload_conf()`)
	awaitQuery(t, standby, `SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)`)
	execute(t, primary, `CREATE TABLE public.not_replicated ()`)
	passes(t.Context(), 2*time.Second)
	counted := query[int64](t, primary, `SELECT sum(input_tokens)::bigint FROM daybook.task_usage_daily`)
	primary.Close()
	stopImmediately(t, dir)
	healed := time.Now()
	execute(t, standby, `SELECT pg_promote()`)
	passes(t.Context(), 5*time.Second)
	written, failed := load.stop()
	awaitSettled(t, pool)
	_, recovered := watch.ends(healed)
	if query[bool](t, pool, `SELECT to_regclass('public.not_replicated') IS NOT NULL`) {
		t.Error("everything was replicated: the test shows nothing")
	}
	note(t, name, "under load", fmt.Sprintf("%d writes, %d refused, 2 s of them lost with the primary, which had counted %d tokens", written, failed, counted), "")
	noteTime(t, name, "lag under 3 s after the promotion was asked for", recovered, recovery)
	requireExact(t, pool)
	retire(t, workers...)
}

// bothHosts is a URL that leads to whichever server takes writes.
func bothHosts(t *testing.T, first, second *localpg.Server) string {
	t.Helper()
	a, err := pgxpool.ParseConfig(first.URL())
	if err != nil {
		t.Fatal(err)
	}
	b, err := pgxpool.ParseConfig(second.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := a.ConnConfig
	return fmt.Sprintf("postgres://%s:%s@%s:%d,%s:%d/%s?target_session_attrs=read-write&sslmode=disable",
		c.User, c.Password, c.Host, c.Port, b.ConnConfig.Host, b.ConnConfig.Port, c.Database)
}

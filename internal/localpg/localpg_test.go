package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// needBinaries skips where this machine has no server binaries: with a Postgres elsewhere or in Docker there is nothing
// to start, and tests install nothing.
func needBinaries(t *testing.T) {
	t.Helper()
	if found, seen := thisSystem().installations(t.Context()); len(found) == 0 {
		t.Skipf("no Postgres server binaries on this machine to start a cluster from: %v", seen)
	}
}

// clusterDir is a folder like that of t.TempDir, but the account of the server can reach it.
func clusterDir(t *testing.T) string {
	t.Helper()
	dir, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, s *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func queryText(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// waitGone waits until the process is not the server of the data folder any more.
func waitGone(t *testing.T, pid int, data string) {
	t.Helper()
	gone, err := awaitEnd(t.Context(), pid, data, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !gone {
		t.Errorf("process %d still runs", pid)
	}
}

func TestStart_Ephemeral(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	s := start(t, Config{Ephemeral: true, Settings: map[string]string{"work_mem": "5MB"}})

	conn := connect(t, s)
	for sql, want := range map[string]string{
		"SHOW fsync":                   "off",
		"SHOW work_mem":                "5MB",
		"SHOW timezone":                "UTC",
		"SHOW server_encoding":         "UTF8",
		"SHOW listen_addresses":        "127.0.0.1",
		"SHOW unix_socket_directories": "",
		"SELECT left(rolpassword, 13) FROM pg_authid WHERE oid=10":                          "SCRAM-SHA-256",
		"SELECT count(*)::text FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'": "0",
	} {
		if got := queryText(t, conn, sql); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	if info, err := os.Stat(s.folder.path("password")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("password file: %v, %v", info, err)
	}

	pid, data := s.process.cmd.Process.Pid, s.folder.path("data")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after Stop: %v", pid, err)
	}
	if _, err := os.Stat(filepath.Dir(data)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder after Stop: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestStart_PersistentKeepsDataPortAndPassword(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	cfg := Config{Dir: filepath.Join(clusterDir(t), "deeper", "cluster")}

	first := start(t, cfg)
	conn := connect(t, first)
	if got := queryText(t, conn, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'here' AS word"); err != nil {
		t.Fatal(err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}

	second := start(t, cfg)
	if second.URL() != first.URL() {
		t.Errorf("URL changed from %s to %s", first.URL(), second.URL())
	}
	if got := queryText(t, connect(t, second), "SELECT word FROM kept"); got != "here" {
		t.Errorf("got %q", got)
	}
	if err := second.Stop(); err != nil {
		t.Fatal(err)
	}

	var lc net.ListenConfig
	taken, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:"+strconv.Itoa(second.folder.lastPort()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	third := start(t, cfg)
	if third.URL() == second.URL() {
		t.Errorf("third start has the taken port: %s", third.URL())
	}
	if got := queryText(t, connect(t, third), "SELECT word FROM kept"); got != "here" {
		t.Errorf("got %q", got)
	}
}

func TestStart_FolderInUse(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := clusterDir(t)
	start(t, Config{Dir: dir})
	_, err := Start(t.Context(), Config{Dir: dir})
	if want := fmt.Sprintf("in use by process %d", os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := Remove(t.Context(), dir, nil); !errors.Is(err, errInUse) {
		t.Errorf("Remove: %v", err)
	}
}

func TestStart_StopsWhatAKilledRunLeft(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := clusterDir(t)
	left := start(t, Config{Dir: dir})
	// When a process is killed, its lock goes and its server may stay.
	if err := left.folder.unlock(); err != nil {
		t.Fatal(err)
	}
	left.stopOnce.Do(func() {})

	next := start(t, Config{Dir: dir})
	waitGone(t, left.process.cmd.Process.Pid, left.folder.path("data"))
	queryText(t, connect(t, next), "SELECT 'ok'")
}

func TestStart_ServerFails(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := clusterDir(t)
	_, err := Start(t.Context(), Config{Dir: dir, Ephemeral: true, Settings: map[string]string{"shared_buffers": "nonsense"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "shared_buffers"`) {
		t.Errorf("the error lacks the server's log: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder after a failed start: %v", err)
	}
}

func TestStart_ContextEnds(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := clusterDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Config{Dir: dir})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// What was left unfinished is in nobody's way.
	start(t, Config{Dir: dir})
}

func TestRemove(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	dir := clusterDir(t)
	s := start(t, Config{Dir: dir})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(t.Context(), dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder after Remove: %v", err)
	}
}

func TestStart_WithoutDir(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Config{}); err == nil {
		t.Error("no error")
	}
}

//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/localpg"
)

// clock is that of a server, and differs from ours.
type clock struct{ file string }

// startServerWithClock starts a server under libfaketime. localpg takes the programs that are on PATH first, which is how
// postgres gets its environment.
func startServerWithClock(t *testing.T) (*localpg.Server, *clock) {
	t.Helper()
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(libraries) == 0 {
		t.Fatal("this needs libfaketime: apt-get install libfaketime, or leave it out with -skip TestClockMoved")
	}
	binaries := query[string](t, connect(t, os.Getenv("DATABASE_URL")), `SELECT setting FROM pg_config WHERE name = 'BINDIR'`)
	dir := serverDir(t)
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join(dir, "server", "server.log")); err == nil && t.Failed() {
			t.Logf("the server:\n%s", log[max(0, len(log)-20_000):])
		}
	})
	c := &clock{file: filepath.Join(dir, "clock")}
	c.set(t, 0)
	environment := fmt.Sprintf("LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1", libraries[0], c.file)
	for name, script := range map[string]string{
		"initdb":   fmt.Sprintf("#!/bin/sh\nexec %s/initdb \"$@\"\n", binaries),
		"postgres": fmt.Sprintf("#!/bin/sh\nexec env %s %s/postgres \"$@\"\n", environment, binaries),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	starting.Lock()
	defer starting.Unlock()
	path := os.Getenv("PATH")
	os.Setenv("PATH", dir+string(os.PathListSeparator)+path) //nolint:errcheck // The name is a good one.
	defer os.Setenv("PATH", path)                            //nolint:errcheck // The name is a good one.
	return startServerLocked(t, localpg.Config{Dir: filepath.Join(dir, "server"), Settings: map[string]string{"fsync": "off"}}), c
}

// set sets the clock to now and some seconds. No reader sees half of it.
func (c *clock) set(t *testing.T, seconds int) {
	t.Helper()
	if err := os.WriteFile(c.file+".new", fmt.Appendf(nil, "%+d\n", seconds), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(c.file+".new", c.file); err != nil {
		t.Fatal(err)
	}
}

// TestClockMoved moves the clock of the server on and back. What is measured is by our clock: how long it takes until all is counted
// that was there when the clock moved, and then what is written after.
func TestClockMoved(t *testing.T) {
	t.Parallel()
	const name = "clock of the database's host moved"
	const hopeless = 30 * time.Second
	server, clock := startServerWithClock(t)
	pool := install(t, server)
	fill(t, pool, demo.Size{Tasks: 1200})
	workers := []*worker{startWorker(t, urlOf(t, pool), "run"), startWorker(t, urlOf(t, pool), "run")}
	load := startLoad(t, pool, 100)
	passes(t.Context(), 3*time.Second)
	for _, move := range []struct {
		what   string
		offset int
	}{
		{"an hour on", 3600},
		{"back by an hour", 0},
		{"back by an hour more", -3600},
		{"on by an hour", 0},
		{"back by 20 s, whose seconds come again", -20},
	} {
		clock.set(t, move.offset)
		if off := query[float64](t, pool, `SELECT extract(epoch FROM clock_timestamp())::float8`) - float64(time.Now().Unix()); int(off)-move.offset > 10 || int(off)-move.offset < -10 {
			t.Fatalf("the server's clock is off by %.0f s, want %d", off, move.offset)
		}
		var longest time.Duration
		for range byLength(8, 2) {
			last := query[int64](t, pool, `SELECT coalesce(max(id), 0) FROM daybook.task_usage_daily_dirty`)
			bounded, cancel := context.WithTimeout(t.Context(), hopeless)
			took, err := poll(bounded, func() (bool, error) {
				return query[bool](t, pool, `SELECT NOT EXISTS (SELECT FROM daybook.task_usage_daily_dirty WHERE id <= $1)`, last), nil
			})
			cancel()
			if err != nil {
				t.Errorf("%s: not counted within %s; %d entries wait", move.what, hopeless, query[int](t, pool, entries))
				longest = hopeless
				break
			}
			longest = max(longest, took)
			passes(t.Context(), 500*time.Millisecond)
		}
		noteTime(t, name, move.what+": changes were counted after at most", longest, fresh)
	}
	load.stopClean(t)
	requireExact(t, pool)
	retire(t, workers...)
}

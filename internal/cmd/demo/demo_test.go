package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestOutputPrefixesWholeLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := newOutput(&b)
	api, worker := out.prefixed("api"), out.prefixed("worker-1")
	for _, w := range []struct {
		to   io.Writer
		text string
	}{{api, "half a "}, {worker, "one\ntwo\nthr"}, {api, "line\n"}, {worker, "ee"}} {
		if n, err := io.WriteString(w.to, w.text); n != len(w.text) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	worker.flush()
	worker.flush()
	want := "worker-1 | one\nworker-1 | two\napi      | half a line\nworker-1 | three\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestSpawner(t *testing.T) {
	t.Parallel()

	t.Run("output of a command", func(t *testing.T) {
		t.Parallel()
		s := newSpawner(t.Context(), newOutput(io.Discard))
		got, err := s.outputOf(t.Context(), shell("echo $DAYBOOK_TEST; echo >&2 noise", "DAYBOOK_TEST=value"))
		if got != "value" || err != nil {
			t.Errorf("outputOf = %q, %v", got, err)
		}
	})

	t.Run("a command that fails", func(t *testing.T) {
		t.Parallel()
		s := newSpawner(t.Context(), newOutput(io.Discard))
		if err := s.run(t.Context(), shell("exit 3")); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("run = %v, want exit status 3", err)
		}
	})

	t.Run("a command that is cut short", func(t *testing.T) {
		t.Parallel()
		s := newSpawner(t.Context(), newOutput(io.Discard))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if err := s.run(ctx, shell("sleep 60")); !errors.Is(err, context.Canceled) {
			t.Errorf("run = %v, want context.Canceled", err)
		}
	})

	t.Run("a child that will not stop is killed after the bound", func(t *testing.T) {
		t.Parallel()
		c := stubborn(t.Context(), t)
		if err := c.stop(50 * time.Millisecond); err == nil {
			t.Error("stop returns no error")
		}
		if !c.signaled() {
			t.Errorf("the child ended with %s", c.cmd.ProcessState)
		}
	})

	t.Run("or as soon as there is hurry", func(t *testing.T) {
		t.Parallel()
		hurry, cancel := context.WithCancel(t.Context())
		c := stubborn(hurry, t)
		cancel()
		if err := c.stop(time.Hour); err != nil {
			t.Error(err)
		}
	})
}

// A worker that somebody kills comes back, and one that fails by itself is an error.
func TestKeepWorker(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "ran")
	d := &demo{out: newOutput(io.Discard), children: newSpawner(t.Context(), newOutput(io.Discard))}
	begin := time.Now()
	err := d.keepWorker(t.Context(), shell(fmt.Sprintf("if [ -e '%s' ]; then exit 4; fi; touch '%[1]s'; kill -9 $$", marker)))
	if err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("keepWorker = %v, want the exit status of the second run", err)
	}
	if took := time.Since(begin); took < restartPause {
		t.Errorf("the worker was away for %s only", took)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()

	t.Run("stops stage by stage", func(t *testing.T) {
		t.Parallel()
		var g group
		var mu sync.Mutex
		var order []string
		for _, name := range []string{"workers", "workers", "api", "writer"} {
			g.start(name, func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return nil
			})
		}
		if err := g.stop(); err != nil {
			t.Error(err)
		}
		if want := []string{"writer", "api", "workers", "workers"}; !slices.Equal(order, want) {
			t.Errorf("stopped in order %v, want %v", order, want)
		}
	})

	t.Run("reports who ended by itself", func(t *testing.T) {
		t.Parallel()
		var g group
		g.start("workers", func(ctx context.Context) error { <-ctx.Done(); return nil })
		g.start("api", func(context.Context) error { return errors.New("no more") })
		down, cancel := context.WithCancel(t.Context())
		g.onFailure(cancel)
		<-down.Done()
		if err := <-g.failed; err == nil || err.Error() != "no more" {
			t.Errorf("failed: %v", err)
		}
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestJWTSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	t.Setenv("JWT_SECRET", "")
	first, err := jwtSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := jwtSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first != again || len(first.value) < 32 {
		t.Errorf("secrets %q, then %q", first.value, again.value)
	}
	info, err := os.Stat(first.file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %s", first.file, info.Mode())
	}
	t.Setenv("JWT_SECRET", "given")
	if given, err := jwtSecret(dir); err != nil || given != (secret{value: "given"}) {
		t.Errorf("jwtSecret = %+v, %v; want what the environment gives", given, err)
	}
}

func TestCheckAddr(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	d := &demo{flags: flags{APIAddr: l.Addr().String()}}
	if err := d.checkAddr(t.Context()); err == nil || !strings.Contains(err.Error(), "--api-addr") {
		t.Errorf("checkAddr = %v, want advice on --api-addr", err)
	}
}

func TestBaseURL(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:8080": "http://127.0.0.1:8080",
		":8080":          "http://127.0.0.1:8080",
		"0.0.0.0:80":     "http://127.0.0.1:80",
		"[::]:80":        "http://127.0.0.1:80",
		"[::1]:80":       "http://[::1]:80",
		"localhost:80":   "http://localhost:80",
	} {
		if got := baseURL(addr); got != want {
			t.Errorf("baseURL(%q) = %q, want %q", addr, got, want)
		}
	}
}

func shell(script string, env ...string) command {
	return command{name: "sh", path: "/bin/sh", args: []string{"-c", script}, env: env}
}

// stubborn is a child that is known to ignore SIGTERM.
func stubborn(hurry context.Context, t *testing.T) *child {
	t.Helper()
	s := newSpawner(hurry, newOutput(io.Discard))
	r, w := io.Pipe()
	c, err := s.startTo(shell("trap '' TERM; echo deaf; while :; do sleep 1; done"), w, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.signal(syscall.SIGKILL) })
	if _, err := io.ReadFull(r, make([]byte, len("deaf\n"))); err != nil {
		t.Fatal(err)
	}
	return c
}

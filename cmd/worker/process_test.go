package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/internal/testdb"
)

// binary is the worker as users run it, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "daybook-worker")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "worker")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput() //nolint:noctx // It is short.
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path)) //nolint:errcheck // A temporary folder.
	}
	os.Exit(code)
}

// process is a running worker.
type process struct {
	*exec.Cmd
	output logBuffer
}

func startWorker(t *testing.T, pool *pgxpool.Pool, args ...string) *process {
	t.Helper()
	return startWorkerOn(t, pool.Config().ConnString(), args...)
}

func startWorkerOn(t *testing.T, url string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(path, append([]string{"run"}, args...)...)} //nolint:noctx // The test stops it by signals.
	p.Env = append(os.Environ(), "DATABASE_URL="+url)
	p.Stderr = &p.output
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			p.Process.Kill()
			p.Wait()
		}
		if t.Failed() {
			t.Logf("worker %d:\n%s", p.Process.Pid, p.output.String())
		}
	})
	return p
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// await polls until done returns true. The test's own deadline ends it.
func await(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	deadline, ok := t.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Minute)
	}
	ctx, cancel := context.WithDeadline(t.Context(), deadline.Add(-5*time.Second))
	defer cancel()
	for {
		ok, err := done()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

func awaitEmptyQueue(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	await(t, "an empty queue", func() (bool, error) {
		pending, err := history.Pending(t.Context(), pool)
		return !pending, err
	})
}

func query[T any](t *testing.T, pool *pgxpool.Pool, sql string) T {
	t.Helper()
	var v T
	if err := pool.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// A random history under workers that are killed at random moments and replaced.
func TestKilledWorkersLoseNothing(t *testing.T) {
	t.Parallel()
	seed := history.Seed(t)
	random := rand.New(rand.NewPCG(seed, 0))
	pool := testdb.New(t)
	workers := []*process{startWorker(t, pool), startWorker(t, pool), startWorker(t, pool)}
	written := make(chan error, 1)
	go func() { written <- history.Play(t.Context(), pool, history.Config{Seed: seed, Transactions: 1500}) }()
	next := time.NewTimer(0)
	kills := 0
playing:
	for {
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			break playing
		case <-next.C:
			i := random.IntN(len(workers))
			workers[i].signal(t, syscall.SIGKILL)
			workers[i].Wait()
			workers[i] = startWorker(t, pool)
			kills++
			next.Reset(time.Duration(300+random.IntN(900)) * time.Millisecond)
		}
	}
	awaitEmptyQueue(t, pool)
	testdb.RequireExact(t, pool)
	t.Logf("%d workers were killed", kills)
	if n := query[int](t, pool, `SELECT count(*) FROM daybook.river_job WHERE kind = 'daybook_drain' AND state = 'completed'`); n == 0 {
		t.Error("no drain job was completed")
	}
}

// A worker that stands still, whatever it holds, stops neither the host nor the other worker.
func TestStoppedWorkerIsInNobodysWay(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	stopped, other := startWorker(t, pool), startWorker(t, pool)
	play := func(seed uint64) {
		t.Helper()
		if err := history.Play(t.Context(), pool, history.Config{Seed: seed, Transactions: 150}); err != nil {
			t.Fatal(err)
		}
	}
	play(1)
	stopped.signal(t, syscall.SIGSTOP)
	play(2)
	awaitEmptyQueue(t, pool)
	testdb.RequireExact(t, pool)
	stopped.signal(t, syscall.SIGCONT)
	play(3)
	awaitEmptyQueue(t, pool)
	testdb.RequireExact(t, pool)
	for _, p := range []*process{stopped, other} {
		p.signal(t, syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	}
}

// A worker that is asked to stop finishes or hands back what it does, and leaves no job behind.
func TestWorkerStopsOnSIGTERM(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	p := startWorker(t, pool)
	written := make(chan error, 1)
	go func() { written <- history.Play(t.Context(), pool, history.Config{Seed: 7, Transactions: 200}) }()
	await(t, "a drain", func() (bool, error) {
		return query[bool](t, pool, `SELECT EXISTS (SELECT FROM daybook.river_job WHERE state = 'completed')`), nil
	})
	p.signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if n := query[int](t, pool, `SELECT count(*) FROM daybook.river_job WHERE state = 'running'`); n != 0 {
		t.Errorf("%d jobs are still running in River's eyes", n)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	startWorker(t, pool)
	awaitEmptyQueue(t, pool)
	testdb.RequireExact(t, pool)
}

//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"daybook/internal/testlog"
)

// logBuffer is testlog.Buffer, of whose end String is a part that can be shown.
type logBuffer struct{ testlog.Buffer }

func (b *logBuffer) String() string {
	const most = 20_000
	all := b.all()
	return all[max(0, len(all)-most):]
}

// all is everything that was written, where String is the end of it.
func (b *logBuffer) all() string { return b.Buffer.String() }

// worker is a process of the built worker, and those that take its place. Its methods may be called from any goroutine.
type worker struct {
	program   string
	env, args []string
	output    logBuffer

	mu    sync.Mutex
	cmd   *exec.Cmd
	done  chan struct{}
	asked bool // to end
	// failedStarts is how often a process ended by itself before it had started, because it could not ask the database. Whoever runs
	// workers starts them again, and so do we. crashed is set if one ended by itself later.
	failedStarts int
	crashed      bool
}

// startWorker starts a worker on the database of url. Without arguments it runs until it is stopped, with a tick of 100 ms.
func startWorker(t *testing.T, url string, args ...string) *worker {
	t.Helper()
	if len(args) == 0 {
		args = []string{"run", "--tick=100ms"}
	}
	w := &worker{
		program: *workerPath, args: args,
		env: append(os.Environ(), "DATABASE_URL="+url, "DAYBOOK_WORKER_METRICS_ADDR=127.0.0.1:0"),
	}
	w.begin(t)
	return w
}

// begin starts the first process, and sees to it that the last one ends with the test.
func (w *worker) begin(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		w.kill()
		if w.crashed {
			t.Error("a worker ended by itself")
		}
		if t.Failed() {
			t.Logf("%s %q:\n%s", filepath.Base(w.program), w.args, w.output.String())
		}
	})
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
}

func (w *worker) start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = false
	return w.launch()
}

// launch starts a process. The caller holds w.mu.
func (w *worker) launch() error {
	cmd := exec.Command(w.program, w.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = w.env, &w.output, &w.output
	fmt.Fprintln(&w.output, newProcess)
	if err := cmd.Start(); err != nil {
		return err
	}
	w.cmd, w.done = cmd, make(chan struct{})
	go w.supervise(cmd, w.done)
	return nil
}

const newProcess = "--- new process"

// started tells whether the present process has got as far as working.
func (w *worker) started() bool {
	log := w.output.all()
	return strings.Contains(log[max(0, strings.LastIndex(log, newProcess)):], "worker started")
}

func (w *worker) supervise(cmd *exec.Cmd, done chan struct{}) {
	cmd.Wait()
	w.mu.Lock()
	if !w.asked && w.args[0] == "run" {
		if w.started() {
			w.crashed = true
		} else {
			w.failedStarts++
		}
	}
	close(done)
	w.mu.Unlock()
	if w.args[0] != "run" {
		return
	}
	passes(context.Background(), 200*time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.asked && w.cmd == cmd {
		_ = w.launch() // The tests that follow see that there is none.
	}
}

func (w *worker) process() (*exec.Cmd, chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cmd, w.done
}

// signal does nothing to a process that has ended.
func (w *worker) signal(s syscall.Signal) {
	cmd, _ := w.process()
	_ = cmd.Process.Signal(s)
}

// end sends a signal that ends the process, and returns once it is gone.
func (w *worker) end(s syscall.Signal) int {
	w.mu.Lock()
	w.asked = true
	cmd, done := w.cmd, w.done
	w.mu.Unlock()
	_ = cmd.Process.Signal(s)
	<-done
	return cmd.ProcessState.ExitCode()
}

// kill ends the process as a crash would.
func (w *worker) kill() { w.end(syscall.SIGKILL) }

// restart kills the process and starts another.
func (w *worker) restart() error {
	w.kill()
	return w.start()
}

// terminate asks the process to end. It returns its exit code and how long it took.
func (w *worker) terminate() (code int, took time.Duration) {
	start := time.Now()
	code = w.end(syscall.SIGTERM)
	return code, time.Since(start)
}

// retire ends workers that have nothing to do, and fails the test if they do not end well.
func retire(t *testing.T, workers ...*worker) {
	t.Helper()
	for _, w := range workers {
		await(t, "a worker's start", func() (bool, error) { return w.started(), nil })
		if code, _ := w.terminate(); code != 0 {
			t.Errorf("after SIGTERM a worker exited with %d", code)
		}
	}
}

// ended tells whether the process is gone.
func (w *worker) ended() bool {
	_, done := w.process()
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// wait returns the exit code of a command that ends by itself.
func (w *worker) wait() int {
	cmd, done := w.process()
	<-done
	return cmd.ProcessState.ExitCode()
}

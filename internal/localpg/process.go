package localpg

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"time"
)

// A process is a child that gets a signal when we die.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once it has ended and cmd.ProcessState is set
}

// startProcess starts the command in a process group of its own, so that a Ctrl-C in the terminal reaches the clients
// of the server and not the server.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the parent-death signal when the thread that started the child ends, not the process.
		// So this goroutine keeps its thread for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		setAttributes(cmd)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// How it ended is in cmd.ProcessState.
		_ = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// state says how the process ended. It may be called once done is closed.
func (p *process) state() string { return p.cmd.ProcessState.String() }

// run runs the command to its end, or to the end of the context.
func run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.WaitDelay = 5 * time.Second
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		if err := p.stop(); err != nil {
			return err
		}
		return ctx.Err()
	case <-p.done:
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s", cmd.Path, p.state())
	}
	return nil
}

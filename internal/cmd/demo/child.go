package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A command is how to start a child.
type command struct {
	name string // stands before its output
	path string
	args []string
	dir  string
	env  []string // wins over our own environment
}

// with is the same program under another name and with other arguments.
func (c command) with(name string, args ...string) command {
	c.name, c.args = name, args
	c.env = slices.Clone(c.env)
	return c
}

// A spawner starts children. Each is the leader of a process group of its own, so a Ctrl-C in the terminal reaches
// them through us only, in our order. On Linux the kernel kills them when we are gone.
type spawner struct {
	out   *output
	hurry context.Context // when it ends, children that are being stopped are killed
	jobs  chan func()
}

func newSpawner(hurry context.Context, out *output) *spawner {
	s := &spawner{out: out, hurry: hurry, jobs: make(chan func())}
	go func() {
		// The kernel takes the end of the thread that started a child for our end. So that thread must not end.
		runtime.LockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

// A child is a started process. When done is closed, err is what Wait returned.
type child struct {
	cmd   *exec.Cmd
	hurry context.Context
	done  chan struct{}
	err   error
}

func (s *spawner) start(c command) (*child, error) {
	lines := s.out.prefixed(c.name)
	return s.startTo(c, lines, lines)
}

func (s *spawner) startTo(c command, stdout, stderr io.Writer) (*child, error) {
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// A grandchild that keeps the pipe open must not keep us.
	cmd.WaitDelay = time.Second
	setAttributes(cmd)
	started := make(chan error)
	s.jobs <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	ch := &child{cmd: cmd, hurry: s.hurry, done: make(chan struct{})}
	go func() {
		ch.err = cmd.Wait()
		if p, ok := stderr.(*prefixWriter); ok {
			p.flush()
		}
		close(ch.done)
	}()
	return ch, nil
}

// run waits for a command that ends by itself, and stops it when ctx ends earlier.
func (s *spawner) run(ctx context.Context, c command) error {
	ch, err := s.start(c)
	if err != nil {
		return err
	}
	return ch.wait(ctx, c)
}

// outputOf runs a command and returns what it printed, without the space around it.
func (s *spawner) outputOf(ctx context.Context, c command) (string, error) {
	var printed bytes.Buffer
	ch, err := s.startTo(c, &printed, s.out.prefixed(c.name))
	if err != nil {
		return "", err
	}
	if err := ch.wait(ctx, c); err != nil {
		return "", err
	}
	return strings.TrimSpace(printed.String()), nil
}

func (c *child) wait(ctx context.Context, cmd command) error {
	select {
	case <-c.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.stop(stopBound))
	}
	if c.err != nil {
		return fmt.Errorf("%s %s: %w", cmd.name, strings.Join(cmd.args, " "), c.err)
	}
	return nil
}

// stop asks the child to end and waits for it. After the bound, or when there is hurry, it kills it.
func (c *child) stop(bound time.Duration) error {
	c.signal(syscall.SIGTERM)
	var late error
	select {
	case <-c.done:
		return nil
	case <-c.hurry.Done():
	case <-time.After(bound):
		late = fmt.Errorf("%s did not stop within %s and was killed", c.cmd.Path, bound)
	}
	c.signal(syscall.SIGKILL)
	<-c.done
	return late
}

// signal goes to the child and its own children.
func (c *child) signal(sig syscall.Signal) {
	select {
	case <-c.done: // its process id may be somebody else's by now
	default:
		// It may have ended just now.
		_ = syscall.Kill(-c.cmd.Process.Pid, sig)
	}
}

// signaled reports whether a signal ended the child.
func (c *child) signaled() bool {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled()
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"time"
)

const (
	// startTimeout bounds the start of a process, stopTimeout its end.
	startTimeout = 15 * time.Second
	stopTimeout  = 15 * time.Second
	// peakEvery is the time between two looks at the memory of a process, which is not to be seen any more after its end.
	peakEvery = 500 * time.Millisecond
)

// process is a worker or an api, as an operator would start it.
type process struct {
	kind  string // as in the table
	peaks *peaks
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended, by err
	err   error
}

func (p *process) start(ctx context.Context, out io.Writer, h *host, binary string, env []string, args ...string) error {
	p.cmd = exec.CommandContext(ctx, binary, args...)
	p.cmd.Env = environment(append(env, "DATABASE_URL="+h.URL)...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%w; build it with: make build", err)
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	go func() {
		look := time.NewTicker(peakEvery)
		defer look.Stop()
		for {
			select {
			case <-p.ended:
				return
			case <-look.C:
				p.peaks.note(p.kind, p.cmd.Process.Pid)
			}
		}
	}()
	return nil
}

// stop ends it and waits for its end.
func (p *process) stop() {
	p.peaks.note(p.kind, p.cmd.Process.Pid)
	p.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // It may be gone.
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		p.kill()
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // It may be gone.
	<-p.ended
}

// awaitOK waits until the address answers the path with 200.
func (p *process) awaitOK(ctx context.Context, addr, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	var answer []byte
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, http.NoBody)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			answer, _ = io.ReadAll(response.Body)
			response.Body.Close() //nolint:errcheck // Nothing depends on it.
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready (%w); start it by hand to see why", p.kind, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s does not become ready: %s", p.kind, cmp.Or(string(answer), "it does not answer"))
		case <-retry.C:
		}
	}
}

// freeAddr returns an address on this machine that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// server is the api as a process.
type server struct {
	process
	addr string
}

// startServer starts the api with its defaults, and waits until it is ready.
func (b *bench) startServer(ctx context.Context, h *host, secret []byte) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{process{kind: "api", peaks: &b.peaks}, addr}
	// Its log goes to the null device: a pipe would cost us time that is the api's.
	err = s.start(ctx, nil, h, b.API, []string{"JWT_SECRET=" + string(secret)}, "serve", "--addr="+addr, "--metrics-addr="+metrics)
	if err != nil {
		return nil, err
	}
	if err := s.awaitOK(ctx, addr, "/readyz"); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

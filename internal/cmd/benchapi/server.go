package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout bounds the start of the api, stopTimeout its end.
	startTimeout = 15 * time.Second
	stopTimeout  = 15 * time.Second
)

// server is the api, as a process of its own.
type server struct {
	addr  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended, by err
	err   error
}

// startServer starts the api as an operator would, with its defaults, and waits until it is ready.
func startServer(ctx context.Context, binary, databaseURL string, secret []byte) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	metrics, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--addr="+addr, "--metrics-addr="+metrics)
	cmd.Env = environment("DATABASE_URL="+databaseURL, "JWT_SECRET="+string(secret))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	// Its log goes to the null device: a pipe would cost us time that is the api's.
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w; build it with: make build", err)
	}
	s := &server{addr: addr, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = cmd.Wait()
	}()
	if err := s.await(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// freeAddr returns an address on this machine that nobody listens on.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	var answer []byte
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+"/readyz", http.NoBody)
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
		case <-s.ended:
			return fmt.Errorf("the api ended before it was ready (%w); start it by hand to see why", s.err)
		case <-ctx.Done():
			return fmt.Errorf("the api does not become ready: %s", cmp.Or(string(answer), "it does not answer"))
		case <-retry.C:
		}
	}
}

// stop ends the api and waits for its end.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // It may be gone.
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		s.cmd.Process.Kill() //nolint:errcheck // It may be gone.
		<-s.ended
	}
}

// peakMemory is the most memory in KiB that the api has held, or 0 where the system does not tell.
func (s *server) peakMemory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB"))) // 0 means unknown.
			return kib
		}
	}
	return 0
}

package localpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	superuser = "postgres"

	// A fast shutdown writes a checkpoint, which can take a while on a slow disk.
	fastStop = 30 * time.Second
	// An immediate shutdown writes nothing.
	immediateStop = 10 * time.Second

	// Somebody can take the port between our look at it and the server's bind.
	portAttempts = 3
)

// Server is a running cluster. Its methods may be called from any goroutine.
type Server struct {
	folder    *folder
	ephemeral bool
	backend   backend
	process   *process
	log       *os.File
	url       string

	stopOnce sync.Once
	stopErr  error
}

// A backend knows how to run the server: from binaries on this machine, or in a container.
type backend interface {
	// prepare makes everything ready for the server and stops what a killed run left over.
	prepare(ctx context.Context, output *os.File) error
	// command is the server in the foreground, listening on the port at 127.0.0.1.
	command(port int) *exec.Cmd
	// cleanup runs after the server has ended.
	cleanup(ctx context.Context) error
}

// URL is the connection string of the superuser and the database postgres.
func (s *Server) URL() string { return s.url }

// Stop ends the server and its connections, waits until it is gone and frees the folder, which it removes when the
// cluster is ephemeral. More calls return the result of the first.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Server) stop() error {
	var errs []error
	if s.process != nil {
		errs = append(errs, s.process.stop())
	}
	if s.backend != nil {
		errs = append(errs, s.backend.cleanup(context.Background()))
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.ephemeral {
		errs = append(errs, os.RemoveAll(s.folder.dir))
	}
	errs = append(errs, s.folder.unlock())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop local Postgres: %w", err)
	}
	return nil
}

func (s *Server) start(ctx context.Context, sys system, cfg Config) error {
	var err error
	if s.backend, err = sys.choose(ctx, s.folder, cfg); err != nil {
		return err
	}
	if s.log, err = s.folder.newLog(); err != nil {
		return err
	}
	if err := s.backend.prepare(ctx, s.log); err != nil {
		return err
	}
	password, err := s.folder.password()
	if err != nil {
		return err
	}
	port := s.folder.lastPort()
	for attempt := 1; ; attempt++ {
		if port, err = freePort(ctx, port); err != nil {
			return err
		}
		s.url = serverURL(port, password)
		cmd := s.backend.command(port)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		cfg.Log.Debug("start server", "command", cmd.Args, "log", s.log.Name())
		if s.process, err = startProcess(cmd); err != nil {
			return err
		}
		err := s.waitReady(ctx, cfg)
		if err == nil {
			return s.folder.savePort(port)
		}
		if !errors.Is(err, errPortTaken) || attempt == portAttempts {
			return err
		}
		port = 0
	}
}

// waitReady connects until that works, the server ends or the context does.
func (s *Server) waitReady(ctx context.Context, cfg Config) error {
	config, err := pgx.ParseConfig(s.url)
	if err != nil {
		return err
	}
	config.ConnectTimeout = 2 * time.Second

	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	remind := time.NewTicker(15 * time.Second)
	defer remind.Stop()
	refused := 0
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn.Close(ctx)
		}
		// A few refusals can come from a foreign server that took the port; then ours ends.
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "28P01" {
			if refused++; refused == 40 {
				return fmt.Errorf("the cluster of %s does not take the password in that folder; make clean removes it, with its data: %w",
					s.folder.dir, err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.process.done:
			return s.ended()
		case <-remind.C:
			cfg.Log.Info("Postgres is still starting", "log", s.log.Name())
		case <-pause.C:
		}
	}
}

var errPortTaken = errors.New("port is taken")

// ended explains why the server ended before it was ready.
func (s *Server) ended() error {
	tail := s.folder.logTail()
	if portTaken(tail) {
		return fmt.Errorf("%w; end of the server log:\n%s", errPortTaken, tail)
	}
	return fmt.Errorf("the server ended (%s); end of its log:\n%s", s.process.state(), tail)
}

func serverURL(port int, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, password),
		Host:     "127.0.0.1:" + strconv.Itoa(port),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// settings are the server settings for the cluster, ours below those of the caller.
func settings(cfg Config, ours map[string]string) map[string]string {
	all := map[string]string{"timezone": "UTC", "log_timezone": "UTC"}
	if cfg.Ephemeral {
		all["fsync"] = "off"
		all["synchronous_commit"] = "off"
		all["full_page_writes"] = "off"
	}
	for _, more := range []map[string]string{ours, cfg.Settings} {
		maps.Copy(all, more)
	}
	return all
}

// stop asks for a fast shutdown, then for an immediate one, then kills.
func (p *process) stop() error {
	for _, step := range []struct {
		signal syscall.Signal
		bound  time.Duration
	}{
		{syscall.SIGINT, fastStop},
		{syscall.SIGQUIT, immediateStop},
		{syscall.SIGKILL, immediateStop},
	} {
		// The process may have ended by itself; then done is closed.
		_ = p.cmd.Process.Signal(step.signal)
		select {
		case <-p.done:
			return nil
		case <-time.After(step.bound):
		}
	}
	return fmt.Errorf("process %d does not end", p.cmd.Process.Pid)
}

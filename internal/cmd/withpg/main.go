// Command withpg runs a command with a Postgres: with the one that DATABASE_URL names, else with a private cluster that
// lives for as long as the command.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"daybook/internal/localpg"
	"daybook/internal/machine"
)

const usage = `Usage: withpg [--help] [--durable] -- COMMAND ARGS...
       withpg --remove DIR

Runs the command with DATABASE_URL set. When it is set already, the command runs as it is. Else withpg starts an
ephemeral Postgres on 127.0.0.1 and removes it when the command ends. It exits with the code of the command.

  --durable     let the Postgres it starts write as safely as one in production,
                with a quarter of the memory for its buffers, for measurements
  --remove DIR  remove the development cluster of the checkout DIR with its data, and what killed runs left behind
`

// Exit codes, as shells and env(1) use them.
const (
	exitFailed     = 125 // withpg itself failed
	exitCannotRun  = 126
	exitNoCommand  = 127
	exitSignalBase = 128
)

// testSettings suit many small databases that are made and dropped in parallel.
var testSettings = map[string]string{
	"max_connections": "300",
	"shared_buffers":  "256MB",
	"max_wal_size":    "4GB",
	"wal_level":       "replica",
	"autovacuum":      "on",
}

// durableSettings undo what makes an ephemeral cluster fast and unsafe, and give it the memory that one in production has.
func durableSettings() map[string]string {
	settings := map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
	// "If you have a dedicated database server with 1GB or more of RAM, a reasonable starting value for shared_buffers is 25% of the memory in your
	// system." PostgreSQL documentation, section 20.4.1.
	if quarter := machine.Memory() / 4 >> 20; quarter > 0 {
		settings["shared_buffers"] = strconv.FormatInt(quarter, 10) + "MB"
	}
	return settings
}

func main() { os.Exit(run()) }

func run() int {
	flags := flag.NewFlagSet("withpg", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	checkout := flags.String("remove", "", "")
	durable := flags.Bool("durable", false, "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return exitFailed
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime}))

	// From here on a signal ends the command or the start of the cluster, and we live to clean up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)

	if *checkout != "" {
		if err := localpg.Remove(context.Background(), localpg.DefaultDir(*checkout), log); err != nil {
			return fail(err)
		}
		return 0
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return exitFailed
	}
	if os.Getenv("DATABASE_URL") != "" {
		return execute(flags.Args(), os.Environ(), signals)
	}
	server, got, err := start(log, *durable, signals)
	if got != nil {
		return exitSignalBase + int(got.(syscall.Signal))
	}
	if err != nil {
		return fail(err)
	}
	code := execute(flags.Args(), append(os.Environ(), "DATABASE_URL="+server.URL()), signals)
	if err := server.Stop(); err != nil {
		return max(code, fail(err))
	}
	return code
}

// start returns the signal that ended the start, if one did.
func start(log *slog.Logger, durable bool, signals <-chan os.Signal) (*localpg.Server, os.Signal, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type result struct {
		server *localpg.Server
		err    error
	}
	settings := maps.Clone(testSettings)
	if durable {
		maps.Copy(settings, durableSettings())
	}
	started := make(chan result, 1)
	go func() {
		server, err := localpg.Start(ctx, localpg.Config{Ephemeral: true, Settings: settings, Log: log})
		started <- result{server, err}
	}()
	select {
	case r := <-started:
		return r.server, nil, r.err
	case got := <-signals:
		cancel()
		r := <-started
		if r.err == nil {
			r.err = r.server.Stop()
		}
		return nil, got, r.err
	}
}

// execute runs the command, passes signals on to it, and returns its exit code.
func execute(args, env []string, signals <-chan os.Signal) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Start()
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		fail(err)
		return exitNoCommand
	case err != nil:
		fail(err)
		return exitCannotRun
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case got := <-signals:
			// The terminal sends a Ctrl-C to the command too. Twice would mean that the user is impatient.
			if got == syscall.SIGINT && inForeground() {
				continue
			}
			// The command may have ended just now.
			_ = cmd.Process.Signal(got)
		case err := <-ended:
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return exitSignalBase + int(status.Signal())
			}
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return fail(err)
			}
			return cmd.ProcessState.ExitCode()
		}
	}
}

// inForeground reports whether a Ctrl-C in our terminal reaches us.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "withpg:", err)
	return exitFailed
}

// Command demo runs all of Daybook on one machine: a Postgres with a demo host in it, the api, two workers, and a
// writer that keeps adding usage. Ctrl-C stops it; the next start goes on with the data that is there.
//
// The invariant: nothing that it started outlives it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"daybook/internal/localpg"
)

type flags struct {
	DatabaseURL string  `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Use this Postgres. Its schema public must be empty, or hold the demo host of an earlier run. Default: a private Postgres, started and stopped with the demo."`
	Dir         string  `env:"DAYBOOK_DEMO_DIR" type:"path" placeholder:"DIR" help:"Keep the private Postgres and the demo's secret here. Default: a folder of this checkout's own."`
	Tasks       int     `env:"DAYBOOK_DEMO_TASKS" default:"100000" help:"How many tasks a new demo host gets; each has 1.5 usage rows on average."`
	Rate        float64 `env:"DAYBOOK_DEMO_RATE" default:"20" help:"Live writes a second; 0 for none."`
	APIAddr     string  `name:"api-addr" env:"DAYBOOK_API_ADDR" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where the api listens (default: ${default})."`
}

// Validate is called by kong.
func (f flags) Validate() error {
	switch {
	case f.Tasks < 1:
		return errors.New("--tasks must be 1 or more")
	case f.Rate < 0 || f.Rate > 10_000:
		return errors.New("--rate must be between 0 and 10000")
	}
	return nil
}

const description = `Run Daybook with a demo host: a Postgres with 120 days of usage in it, two workers, the api, and a writer
that goes on adding usage. Ctrl-C stops everything. The next run goes on with the data that is there; make clean
removes it.`

func main() {
	var f flags
	kong.Parse(&f, kong.Name("demo"), kong.Description(description))
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(f flags) error {
	root, err := findCheckout()
	if err != nil {
		return err
	}
	if f.Dir == "" {
		f.Dir = localpg.DefaultDir(root)
	}
	// The first signal asks for an orderly stop, the second one for a quick one.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	hurry, kill := context.WithCancel(context.Background())
	defer kill()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	out := newOutput(os.Stdout)
	go func() {
		<-signals
		out.say("stopping; once more to kill")
		stop()
		<-signals
		out.say("killing")
		kill()
	}()
	d := &demo{
		flags:    f,
		root:     root,
		out:      out,
		children: newSpawner(hurry, out),
	}
	err = d.run(ctx)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}

// findCheckout returns the folder of Daybook's go.mod, from the working folder upwards.
func findCheckout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && (strings.HasPrefix(string(mod), "module daybook\n") || strings.Contains(string(mod), "\nmodule daybook\n")) {
			return dir, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find the checkout: %w", err)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not within a checkout of Daybook: run it there, it builds the worker and the api")
		}
		dir = parent
	}
}

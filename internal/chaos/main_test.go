//go:build chaos

package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"daybook/internal/localpg"
)

var (
	workerPath  = flag.String("worker", "../../bin/worker", "the worker to run")
	apiPath     = flag.String("api", "../../bin/api", "the api to run")
	seedCount   = flag.Int("seeds", 0, "number of random histories with faults; default 200, with -short 5")
	onlySeed    = flag.Uint64("seed", 0, "play this seed alone")
	heldFor     = flag.Duration("held", 0, "how long a transaction of the host stays open; default 10m, with -short 10s")
	backlogSize = flag.Int("backlog", 0, "entries of the backlog; default 1,000,000, with -short 12,000")
	reportPath  = flag.String("report", "", "file whose part between the markers gets the measured table")
)

// byLength is full, or short for the round that is to take some minutes.
func byLength[T any](full, short T) T {
	if testing.Short() {
		return short
	}
	return full
}

// orElse is the flag's value if it is given.
func orElse[T comparable](given, other T) T {
	var none T
	if given != none {
		return given
	}
	return other
}

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(beChild(mode))
	}
	flag.Parse()
	if err := setParallel(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// setParallel lets tests run one after the other, or three at once in the short round, unless -parallel says otherwise.
func setParallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", byLength("1", "3"))
}

// run starts the server that tests share who do nothing to it. testdb finds it by DATABASE_URL.
func run(m *testing.M) (code int, err error) {
	for _, program := range []*string{workerPath, apiPath} {
		path, err := filepath.Abs(*program)
		if err != nil {
			return 1, err
		}
		*program = path
		if _, err := os.Stat(path); err != nil {
			return 1, fmt.Errorf("there is no program to run; make chaos builds it: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	server, err := localpg.Start(ctx, localpg.Config{Ephemeral: true, Settings: map[string]string{"max_connections": "200"}})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if err := os.Setenv("DATABASE_URL", server.URL()); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, measured.publish(*reportPath)
}

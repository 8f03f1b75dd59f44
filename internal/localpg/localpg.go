// Package localpg starts a private Postgres for development and tests.
//
// It takes the first of these that works:
//
//  1. server binaries (initdb and postgres, version 15 or newer) on PATH, else the newest in the usual places;
//  2. as root on a Debian-like system: the package postgresql, which it installs, without the cluster that the
//     package would create and start;
//  3. a running Docker engine, with the image postgres:17.
//
// DATABASE_URL is the caller's business: this package reads no environment but PATH, and TMPDIR for ephemeral clusters.
//
// The invariants: the server listens on 127.0.0.1 only, wants a random password, never runs as root, and does not
// outlive the process that started it. On Linux that holds after kill -9 too. Elsewhere the next Start of the same
// folder stops what was left over.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
)

// Config says which cluster to start and how.
type Config struct {
	// Dir is the folder of the cluster. It is created when missing. One process at a time may use it.
	// It must be set unless Ephemeral is; then the default is a new folder for temporary files.
	// When we are root, an unprivileged account must be able to reach it: see DefaultDir.
	Dir string

	// Ephemeral makes a cluster for one run: it does not wait for the disk (fsync, synchronous_commit and
	// full_page_writes are off), and Stop removes its folder. Default false.
	Ephemeral bool

	// Settings are server settings by name, as in postgresql.conf. They win over those of this package,
	// except for the ones about listening. Default none.
	Settings map[string]string

	// StandbyOf makes the cluster a hot standby of the server with this URL, whose user is a superuser: it streams from there, and
	// has its users, passwords and settings. Only with server binaries of the same version, and for a folder that is new.
	// Default "", no standby.
	StandbyOf string

	// Log gets a line for each step that takes time or changes the machine. Default none.
	Log *slog.Logger
}

// Start finds a Postgres, starts the cluster and returns once it takes connections. The context bounds the start
// only; the server runs until Stop. Installing a package or pulling an image can take minutes.
//
// When the folder is in use by another process, the error says by which. When the server does not come up, the error
// has the end of its log. When no Postgres is found, the error says what to do.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	return thisSystem().start(ctx, cfg)
}

func (sys system) start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Dir == "" && !cfg.Ephemeral:
		return nil, errors.New("start local Postgres: Dir is empty")
	case cfg.Dir == "":
		sweep(ctx, cfg.Log)
		dir, err := tempDir()
		if err != nil {
			return nil, fmt.Errorf("start local Postgres: %w", err)
		}
		cfg.Dir = dir
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("start local Postgres: %w", err)
	}

	f, err := openFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("start local Postgres: %w", err)
	}
	s := &Server{folder: f, ephemeral: cfg.Ephemeral}
	if err := s.start(ctx, sys, cfg); err != nil {
		return nil, fmt.Errorf("start local Postgres: %w", errors.Join(err, s.Stop()))
	}
	return s, nil
}

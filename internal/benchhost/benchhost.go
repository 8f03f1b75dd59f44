// Package benchhost makes the databases that the benches measure on, each with a demo host in it, on a server for tests.
package benchhost

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/postgres"
)

const (
	// usagePerTask is what the demo host has on average.
	usagePerTask = 1.468
	// maxConnections is more than a bench uses at once.
	maxConnections = 16
)

// Host is a database of a bench's own.
type Host struct {
	Name string
	URL  string
	Pool *pgxpool.Pool

	server string // the URL that the database was made through
}

// Create makes an empty database on the server. Drop removes it.
func Create(ctx context.Context, serverURL, name string) (*Host, error) {
	h, err := Open(ctx, serverURL, name)
	if err != nil {
		return nil, err
	}
	if err := h.execOnServer(ctx, "CREATE DATABASE "+name); err != nil {
		h.Pool.Close()
		return nil, err
	}
	return h, nil
}

// Open is for a database that is there. It connects when the pool is first used.
func Open(ctx context.Context, serverURL, name string) (*Host, error) {
	u, err := url.Parse(serverURL)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("DATABASE_URL must be a URL: postgres://user:password@host/database")
	}
	u.Path = "/" + name
	h := &Host{Name: name, URL: u.String(), server: serverURL}
	config, err := pgxpool.ParseConfig(h.URL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = maxConnections
	config.AfterConnect = postgres.EncodeArrays
	h.Pool, err = pgxpool.NewWithConfig(ctx, config)
	return h, err
}

// Fill makes a demo host with so many runtimes and usage rows, hotRows of them of one runtime if there are more than that.
func (h *Host) Fill(ctx context.Context, runtimes, usage, hotRows int) error {
	if err := demo.CreateHost(ctx, h.Pool); err != nil {
		return err
	}
	size := demo.Size{Tasks: max(1, int(float64(usage)/usagePerTask)), Runtimes: runtimes}
	if usage > hotRows {
		size.HotRuntime = float64(hotRows) / float64(usage)
	}
	return demo.Fill(ctx, h.Pool, size)
}

// Drop closes the pool and removes the database, also after ctx is done.
func (h *Host) Drop(ctx context.Context) error {
	h.Pool.Close()
	if err := h.execOnServer(context.WithoutCancel(ctx), "DROP DATABASE "+h.Name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", h.Name, err)
	}
	return nil
}

func (h *Host) execOnServer(ctx context.Context, sql string) error {
	server, err := pgx.Connect(ctx, h.server)
	if err != nil {
		return err
	}
	defer server.Close(context.WithoutCancel(ctx)) //nolint:errcheck // Nothing depends on it.
	_, err = server.Exec(ctx, sql)
	return err
}

// Statement returns the SQL that a bench has embedded as sql/name.sql.
func Statement(files embed.FS, name string) string {
	b, err := files.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // Embedded: the name is wrong.
	}
	return string(b)
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
)

// usagePerTask is what the demo host has on average.
const usagePerTask = 1.468

// host is a database of the bench's own with a demo host in it.
type host struct {
	name   string
	server string // the URL that the database was made through
	url    string
	pool   *pgxpool.Pool
}

// newHost makes an empty database, unless it is given the name of one.
func newHost(ctx context.Context, serverURL, name string) (*host, error) {
	u, err := url.Parse(serverURL)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("DATABASE_URL must be a URL: postgres://user:password@host/database")
	}
	h := &host{name: cmp.Or(name, fmt.Sprintf("daybook_bench_api_%d", os.Getpid())), server: serverURL}
	u.Path = "/" + h.name
	h.url = u.String()
	if h.pool, err = pgxpool.New(ctx, h.url); err != nil { // It connects when it is first used.
		return nil, err
	}
	if name == "" {
		if err := h.execOnServer(ctx, "CREATE DATABASE "+h.name); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (h *host) execOnServer(ctx context.Context, sql string) error {
	server, err := pgx.Connect(ctx, h.server)
	if err != nil {
		return err
	}
	defer server.Close(context.WithoutCancel(ctx)) //nolint:errcheck // Nothing depends on it.
	_, err = server.Exec(ctx, sql)
	return err
}

// drop removes the database, also after ctx is done.
func (h *host) drop(ctx context.Context) error {
	h.pool.Close()
	if err := h.execOnServer(context.WithoutCancel(ctx), "DROP DATABASE "+h.name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("drop database %s: %w", h.name, err)
	}
	return nil
}

// fill makes the history of the host and its rollups.
func (h *host) fill(ctx context.Context, c *cli) error {
	if err := demo.CreateHost(ctx, h.pool); err != nil {
		return err
	}
	say("filling the host with %d usage rows", c.Rows)
	size := demo.Size{Tasks: max(1, int(float64(c.Rows)/usagePerTask)), Runtimes: 40}
	if c.Rows > c.HotRows {
		size.HotRuntime = float64(c.HotRows) / float64(c.Rows)
	}
	if err := demo.Fill(ctx, h.pool, size); err != nil {
		return err
	}
	for _, args := range [][]string{{"migrate", "up"}, {"backfill"}} {
		say("worker %s", strings.Join(args, " "))
		worker := exec.CommandContext(ctx, c.Worker, args...)
		worker.Env = environment("DATABASE_URL=" + h.url)
		if out, err := worker.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w; build it with: make build\n%s", c.Worker, strings.Join(args, " "), err, out)
		}
	}
	// Nothing is left for autovacuum to do while things are measured.
	_, err := h.pool.Exec(ctx, "VACUUM (ANALYZE)")
	return err
}

// choose returns the largest workspace and a busy runtime in it.
func (h *host) choose(ctx context.Context) (subject, error) {
	var s subject
	if err := h.pool.QueryRow(ctx, statement("largest_workspace")).Scan(&s.workspace, &s.user); err != nil {
		return s, fmt.Errorf("choose a workspace: %w", err)
	}
	if err := h.pool.QueryRow(ctx, statement("typical_runtime"), s.workspace).Scan(&s.runtime, &s.runtimeRows); err != nil {
		return s, fmt.Errorf("choose a runtime: %w", err)
	}
	return s, nil
}

// describe returns the version of Postgres, and how much usage there is.
func (h *host) describe(ctx context.Context) (version string, rows int, err error) {
	err = h.pool.QueryRow(ctx, statement("describe")).Scan(&version, &rows)
	return version, rows, err
}

// environment is ours with more variables and without those that would change what is measured.
func environment(more ...string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "DAYBOOK_") && name != "JWT_SECRET" {
			env = append(env, variable)
		}
	}
	return append(env, more...)
}

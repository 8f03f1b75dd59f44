package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/benchhost"
)

// host makes an empty database, unless one is to be used that is there.
func (c *cli) host(ctx context.Context) (*benchhost.Host, error) {
	if c.Use != "" {
		return benchhost.Open(ctx, c.DatabaseURL, c.Use)
	}
	return benchhost.Create(ctx, c.DatabaseURL, fmt.Sprintf("daybook_bench_api_%d", os.Getpid()))
}

// fill makes the history of the host and its rollups.
func (c *cli) fill(ctx context.Context, h *benchhost.Host) error {
	say("filling the host with %d usage rows", c.Rows)
	if err := h.Fill(ctx, c.Rows, c.HotRows); err != nil {
		return err
	}
	for _, args := range [][]string{{"migrate", "up"}, {"backfill"}} {
		say("worker %s", strings.Join(args, " "))
		worker := exec.CommandContext(ctx, c.Worker, args...)
		worker.Env = environment("DATABASE_URL=" + h.URL)
		if out, err := worker.CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w; build it with: make build\n%s", c.Worker, strings.Join(args, " "), err, out)
		}
	}
	// Nothing is left for autovacuum to do while things are measured.
	_, err := h.Pool.Exec(ctx, "VACUUM (ANALYZE)")
	return err
}

// choose returns the largest workspace and a busy runtime in it.
func choose(ctx context.Context, pool *pgxpool.Pool) (subject, error) {
	var s subject
	if err := pool.QueryRow(ctx, statement("largest_workspace")).Scan(&s.workspace, &s.user); err != nil {
		return s, fmt.Errorf("choose a workspace: %w", err)
	}
	if err := pool.QueryRow(ctx, statement("typical_runtime"), s.workspace).Scan(&s.runtime, &s.runtimeRows); err != nil {
		return s, fmt.Errorf("choose a runtime: %w", err)
	}
	return s, nil
}

// describe returns the version of Postgres, and how much usage there is.
func describe(ctx context.Context, pool *pgxpool.Pool) (version string, rows int, err error) {
	err = pool.QueryRow(ctx, statement("describe")).Scan(&version, &rows)
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

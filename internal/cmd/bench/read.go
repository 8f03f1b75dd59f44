package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/httpapi"
)

// endpoints are all that read.
var endpoints = []string{
	"/api/runtimes/{id}/usage",
	"/api/runtimes/{id}/usage/by-agent",
	"/api/runtimes/{id}/usage/by-hour",
	"/api/runtimes/{id}/activity",
	"/api/usage/daily",
	"/api/usage/summary",
	"/api/dashboard/usage/daily",
	"/api/dashboard/usage/by-agent",
	"/api/dashboard/agent-runtime",
	"/api/dashboard/runtime/daily",
	"/api/runtimes",
	"/api/runtimes/{id}",
}

// chosen returns the endpoint of the path or, if there is none, those that have it in their path.
func chosen(path string) []string {
	if slices.Contains(endpoints, path) {
		return []string{path}
	}
	var chosen []string
	for _, e := range endpoints {
		if strings.Contains(e, path) {
			chosen = append(chosen, e)
		}
	}
	return chosen
}

// read measures each read endpoint of the api beside pgbench with the very statement that the endpoint sends, and beside the GROUP BY on the
// host's tables, at two sizes.
func (b *bench) read(ctx context.Context) error {
	b.explainRead()
	for _, name := range []string{middle, large} {
		h, err := b.host(ctx, name)
		if err != nil {
			return err
		}
		report, err := b.readHost(ctx, h)
		if err != nil {
			return err
		}
		b.addRead(report)
	}
	return nil
}

func (b *bench) readHost(ctx context.Context, h *host) (readReport, error) {
	bench, err := findPgbench(ctx, h.Host)
	if err != nil {
		return readReport{}, err
	}
	subject, err := choose(ctx, h.Pool)
	if err != nil {
		return readReport{}, err
	}
	secret := []byte(rand.Text() + rand.Text())
	token, err := httpapi.SignToken(secret, subject.user, "", "", 24*time.Hour)
	if err != nil {
		return readReport{}, err
	}
	rollup, err := newProbe(ctx, h.URL, secret, httpapi.SourceRollup)
	if err != nil {
		return readReport{}, err
	}
	defer rollup.pool.Close()
	source, err := newProbe(ctx, h.URL, secret, httpapi.SourceHost)
	if err != nil {
		return readReport{}, err
	}
	defer source.pool.Close()
	server, err := b.startServer(ctx, h, secret)
	if err != nil {
		return readReport{}, err
	}
	defer server.stop()

	report := readReport{rows: h.rows, runtimeRows: subject.runtimeRows, results: make(map[int][]*endpointResult)}
	for _, pattern := range chosen(b.Endpoint) {
		say("%s", pattern)
		e := &endpoint{
			pattern: pattern, bench: bench, nulls: b.LiteralNulls, length: b.ReadDuration.Truncate(time.Second),
			load: load{addr: server.addr, path: subject.path(pattern), token: token},
		}
		if err := e.prepare(ctx, rollup, source); err != nil {
			return readReport{}, fmt.Errorf("%s: %w", pattern, err)
		}
		e.alone = &endpointResult{endpoint: e, connections: 1}
		if !slices.Contains(b.Connections, 1) {
			if err := e.alone.measure(ctx, b.ReadRounds); err != nil {
				return readReport{}, fmt.Errorf("%s: %w", pattern, err)
			}
		}
		for _, connections := range b.Connections {
			r := e.alone
			if connections > 1 {
				r = &endpointResult{endpoint: e, connections: connections}
			}
			if err := r.measure(ctx, b.ReadRounds); err != nil {
				return readReport{}, fmt.Errorf("%s: %w", pattern, err)
			}
			report.results[connections] = append(report.results[connections], r)
		}
	}
	for _, connections := range b.Connections {
		if err := report.measureWorst(ctx, connections); err != nil {
			return readReport{}, err
		}
	}
	return report, nil
}

// measureWorst measures the endpoint that is worst in more rounds, until the worst has enough of them: of many endpoints that were measured for a
// moment, chance alone makes one the worst.
func (r readReport) measureWorst(ctx context.Context, connections int) error {
	const enough = 3
	for {
		worst := r.worst(connections)
		if len(worst.api) >= enough {
			return nil
		}
		say("%s, %s, once more", worst.pattern, counted(connections, "connection"))
		if err := worst.measure(ctx, enough-len(worst.api)); err != nil {
			return fmt.Errorf("%s: %w", worst.pattern, err)
		}
	}
}

// subject is who and what is asked about.
type subject struct {
	user        pgtype.UUID
	workspace   string // its slug
	runtime     string
	runtimeRows int
}

// path is that of a pattern. It has no days where there is no window.
func (s subject) path(pattern string) string {
	var query []string
	path := strings.ReplaceAll(pattern, "{id}", s.runtime)
	if path == pattern {
		query = append(query, "workspace_slug="+s.workspace)
	}
	if strings.Contains(pattern, "usage") || strings.HasPrefix(pattern, "/api/dashboard/") {
		query = append(query, "days=30")
	}
	if len(query) == 0 {
		return path
	}
	return path + "?" + strings.Join(query, "&")
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

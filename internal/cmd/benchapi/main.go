// Command benchapi measures each read endpoint of the API beside pgbench with the very statement that the endpoint sends, in one run
// on the same machine and data, and prints a table. Ratios mean something on any machine; rates only on this one.
package main

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/benchhost"
	"daybook/internal/httpapi"
)

//go:embed sql/*.sql
var statements embed.FS

func statement(name string) string { return benchhost.Statement(statements, name) }

type cli struct {
	DatabaseURL  string `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"A Postgres server for tests, as postgres://user:password@host/database. A database of the bench's own is made on it and dropped."`
	Rows         int    `default:"1000000" help:"Usage rows of the host. Default ${default}."`
	HotRows      int    `name:"hot-rows" default:"300000" help:"Usage rows of the largest runtime, if there are more rows than that. Default ${default}."`
	Connections  []int  `default:"8" help:"Numbers of connections to measure with, such as 1,8,64. Default 8."`
	Rounds       int    `default:"3" help:"Rounds for each endpoint, of which the median counts. pgbench and the api take turns. Default ${default}."`
	Seconds      int    `default:"3" help:"Seconds that pgbench, then the api, are measured for in each round. Default ${default}."`
	Only         string `placeholder:"SUBSTRING" help:"Measure only the endpoint of this path or, if there is none, those with this in their path."`
	LiteralNulls bool   `name:"literal-nulls" help:"Write nulls into pgbench's statement, instead of sending them as parameters as the api does. Postgres may then choose another plan."`
	Keep         bool   `help:"Keep the database, and say how it is called."`
	Use          string `placeholder:"DATABASE" help:"Measure with a database that an earlier run kept, and keep it."`
	API          string `default:"bin/api" help:"The api's binary. Default ${default}."`
	Worker       string `default:"bin/worker" help:"The worker's binary, which makes the rollups. Default ${default}."`
}

// Validate is called by kong.
func (c *cli) Validate() error {
	switch {
	case c.Rows < 1 || c.HotRows < 1:
		return errors.New("--rows and --hot-rows must be 1 or more")
	case len(c.Connections) == 0 || slices.Min(c.Connections) < 1:
		return errors.New("--connections must be 1 or more")
	case slices.Max(c.Connections) > httpapi.DefaultMaxRequests/2:
		return fmt.Errorf("--connections must be %d at most, as many as the api answers one caller at once", httpapi.DefaultMaxRequests/2)
	case c.Rounds < 1 || c.Seconds < 1:
		return errors.New("--rounds and --seconds must be 1 or more")
	case len(c.chosen()) == 0:
		return fmt.Errorf("--only=%s: no endpoint has that in its path; they are\n%s", c.Only, strings.Join(endpoints, "\n"))
	}
	return nil
}

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

// wantedRatio is the least that the api is to reach of pgbench's rate.
const wantedRatio = 0.4

func (c *cli) chosen() []string {
	if slices.Contains(endpoints, c.Only) {
		return []string{c.Only}
	}
	var chosen []string
	for _, e := range endpoints {
		if strings.Contains(e, c.Only) {
			chosen = append(chosen, e)
		}
	}
	return chosen
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	kong.Parse(&c, kong.Name("benchapi"), kong.Description(
		"Measures each read endpoint of the api beside pgbench with the same SQL, and prints a table in Markdown."))
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchapi:", err)
		os.Exit(1)
	}
}

func (c *cli) run(ctx context.Context) (err error) {
	host, err := c.host(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if c.Keep || c.Use != "" {
			say("the database is kept: %s", host.Name)
			host.Pool.Close()
			return
		}
		err = errors.Join(err, host.Drop(ctx))
	}()
	bench, err := findPgbench(ctx, host)
	if err != nil {
		return err
	}
	if c.Use == "" {
		if err := c.fill(ctx, host); err != nil {
			return err
		}
	}
	subject, err := choose(ctx, host.Pool)
	if err != nil {
		return err
	}
	secret := []byte(rand.Text() + rand.Text())
	token, err := httpapi.SignToken(secret, subject.user, "", "", 24*time.Hour)
	if err != nil {
		return err
	}
	rollup, err := newProbe(ctx, host.URL, secret, httpapi.SourceRollup)
	if err != nil {
		return err
	}
	defer rollup.pool.Close()
	source, err := newProbe(ctx, host.URL, secret, httpapi.SourceHost)
	if err != nil {
		return err
	}
	defer source.pool.Close()
	server, err := startServer(ctx, c.API, host.URL, secret)
	if err != nil {
		return err
	}
	defer server.stop()

	results := make(map[int][]result)
	for _, pattern := range c.chosen() {
		say("%s", pattern)
		m := &measurement{
			pattern: pattern, bench: bench, nulls: c.LiteralNulls, rounds: c.Rounds, length: time.Duration(c.Seconds) * time.Second,
			load: load{addr: server.addr, path: subject.path(pattern), token: token},
		}
		if err := m.prepare(ctx, rollup, source); err != nil {
			return fmt.Errorf("%s: %w", pattern, err)
		}
		for _, connections := range c.Connections {
			r, err := m.measure(ctx, connections)
			if err != nil {
				return fmt.Errorf("%s: %w", pattern, err)
			}
			results[connections] = append(results[connections], r)
		}
	}
	version, rows, err := describe(ctx, host.Pool)
	if err != nil {
		return err
	}
	writeReport(os.Stdout, report{
		rows: rows, runtimeRows: subject.runtimeRows, version: version, rounds: c.Rounds, seconds: c.Seconds,
		connections: c.Connections, results: results, memory: server.peakMemory(),
	})
	return nil
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

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "benchapi: "+format+"\n", args...)
}

// Command bench measures Daybook beside what it is compared with, all in one run on the same data and the same Postgres, and
// prints one table. Ratios mean something on any machine; times only on this one.
package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/benchhost"
	"daybook/migrations"
	"daybook/rollup"
)

//go:embed sql/*.sql
var statements embed.FS

func statement(name string) string { return benchhost.Statement(statements, name) }

type cli struct {
	DatabaseURL string        `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"A Postgres server for tests. Databases of the bench's own are made on it and dropped."`
	Small       int           `default:"100000" help:"Usage rows of the small host."`
	Large       int           `default:"3000000" help:"Usage rows of the large host."`
	HotRows     int           `name:"hot-rows" default:"300000" help:"Usage rows of the large host's largest runtime."`
	Rate        int           `default:"1000" help:"Upserts a second while freshness is measured."`
	Duration    time.Duration `default:"60s" help:"How long freshness is measured."`
	Worker      string        `default:"bin/worker" help:"The worker's binary, for freshness."`
	Only        []string      `help:"Measure only these: ${enum}." enum:"backfill,verify,rebuild,drain,write,freshness"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	kong.Parse(&c, kong.Name("bench"), kong.Description("Measures Daybook beside what it is compared with and prints one table."))
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is a line of the table.
type result struct {
	work, measured, against, ratio, wanted string
}

func (c *cli) run(ctx context.Context) error {
	wants := func(name string) bool {
		return len(c.Only) == 0 || strings.Contains(","+strings.Join(c.Only, ",")+",", ","+name+",")
	}
	var results []result
	large, drop, err := c.newHost(ctx, "large", c.Large)
	if err != nil {
		return err
	}
	defer drop()
	r, err := backfill(ctx, large)
	if err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	results = append(results, r)
	if wants("verify") {
		if r, err = verify(ctx, large, c.Large); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		results = append(results, r)
	}
	if wants("rebuild") {
		if r, err = rebuild(ctx, large); err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
		results = append(results, r)
	}
	if wants("drain") {
		small, drop, err := c.newHost(ctx, "small", c.Small)
		if err != nil {
			return err
		}
		defer drop()
		if _, err := migrations.Up(ctx, small); err != nil {
			return err
		}
		if err := rollup.Backfill(ctx, small, rollup.BackfillConfig{}); err != nil {
			return err
		}
		if r, err = drain(ctx, small, large); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		results = append(results, r)
	}
	if wants("write") {
		if r, err = write(ctx, large); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		results = append(results, r)
	}
	if wants("freshness") {
		rs, err := c.freshness(ctx, large)
		if err != nil {
			return fmt.Errorf("freshness: %w", err)
		}
		results = append(results, rs...)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nWORK\tMEASURED\tAGAINST\tRATIO\tWANTED")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.work, r.measured, r.against, r.ratio, r.wanted)
	}
	return table.Flush()
}

// newHost makes a database with a filled host. drop removes it.
func (c *cli) newHost(ctx context.Context, name string, usage int) (pool *pgxpool.Pool, drop func(), err error) {
	host, err := benchhost.Create(ctx, c.DatabaseURL, fmt.Sprintf("daybook_bench_%s_%d", name, os.Getpid()))
	if err != nil {
		return nil, nil, err
	}
	drop = func() {
		if err := host.Drop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	say("filling the %s host with %d usage rows", name, usage)
	if err := host.Fill(ctx, usage, c.HotRows); err != nil {
		drop()
		return nil, nil, err
	}
	return host.Pool, drop, nil
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func timed(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}

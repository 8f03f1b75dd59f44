// Command bench measures Daybook beside what it is compared with, all in one run on the same data and the same Postgres, and
// prints one table in Markdown. Ratios mean something on any machine; times only on this one.
package main

import (
	"context"
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

	"daybook/internal/benchhost"
	"daybook/internal/httpapi"
)

//go:embed sql/*.sql
var statements embed.FS

func statement(name string) string { return benchhost.Statement(statements, name) }

type cli struct {
	DatabaseURL string   `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"A Postgres server for tests, as postgres://user:password@host/database. Databases of the bench's own are made on it and dropped."`
	Only        []string `placeholder:"ROW,..." help:"Measure only these: ${enum}. All but scale if there is none." enum:"apply,backlog,backfill,rebuild,verify,freshness,disturb,write,read,space,memory,queue,idle,scale"`

	Rows  int `default:"1000000" help:"Usage rows of the middle host, which most is measured on. Default ${default}."`
	Small int `help:"Usage rows of the small host. Default a tenth of --rows."`
	Large int `help:"Usage rows of the large host, a fifth of them of one runtime. Default five times --rows."`

	Runtimes int `default:"40" help:"Runtimes of each host, each with two agents. Default ${default}."`

	Rounds        int           `default:"21" help:"Rounds of apply beside what computes anew, of which the median counts; three times as many at each size. Default ${default}."`
	RefreshRounds int           `name:"refresh-rounds" default:"2" help:"Refreshs of the materialized views that apply is compared with. Default ${default}."`
	Pairs         int           `default:"11" help:"Pairs of write, with triggers and without, of 2 s each. Default ${default}."`
	Rates         []int         `default:"500,2000" help:"Upserts a second at which freshness is measured, besides 70 % of the highest. Default 500,2000."`
	Duration      time.Duration `default:"12s" help:"How long freshness is measured at each rate, and each disturbance. Default ${default}."`
	Rate          int           `default:"2000" help:"Upserts a second while a transaction is held, and half of it while workers are disturbed. Default ${default}."`
	Held          time.Duration `default:"1m" help:"How long queue keeps a transaction open. Default ${default}."`
	Idle          time.Duration `default:"20s" help:"How long idle processes are watched. Default ${default}."`
	Connections   []int         `default:"1,8,64" help:"Numbers of connections that read is measured with. Default 1,8,64."`
	ReadRounds    int           `name:"read-rounds" default:"1" help:"Rounds of read for each endpoint, of which the median counts. pgbench and the api take turns. Default ${default}."`
	ReadDuration  time.Duration `name:"read-duration" default:"1s" help:"How long pgbench, then the api, are measured in each round of read; whole seconds. Default ${default}."`
	Endpoint      string        `placeholder:"SUBSTRING" help:"Of read, measure only the endpoint of this path or, if there is none, those with this in their path."`
	LiteralNulls  bool          `name:"literal-nulls" help:"Write nulls into pgbench's statement, instead of sending them as parameters as the api does. Postgres may then choose another plan."`
	Write         string        `type:"path" placeholder:"FILE" help:"Also write the table into this Markdown file, between <!-- bench:begin --> and <!-- bench:end -->, and a picture beside it, with the ending .svg."`
	Keep          bool          `help:"Keep the databases, and say how they are called."`
	Use           string        `placeholder:"PREFIX" help:"Measure with the databases that an earlier run kept, PREFIX_small and so on, make those that are missing, and keep all."`
	API           string        `default:"bin/api" help:"The api's binary. Default ${default}."`
	Worker        string        `default:"bin/worker" help:"The worker's binary. Default ${default}."`
}

// AfterApply is called by kong.
func (c *cli) AfterApply() error {
	if c.Small == 0 {
		c.Small = c.Rows / 10
	}
	if c.Large == 0 {
		c.Large = 5 * c.Rows
	}
	switch {
	case c.Small < 1000 || c.Rows < c.Small || c.Large < c.Rows:
		return errors.New("--small must be 1000 or more, --rows no less, and --large no less than that")
	case c.Runtimes < 2:
		return errors.New("--runtimes must be 2 or more: there are two workspaces")
	case c.Rounds < 1 || c.RefreshRounds < 1 || c.Pairs < 1 || c.ReadRounds < 1:
		return errors.New("--rounds, --refresh-rounds, --pairs and --read-rounds must be 1 or more")
	case len(c.Rates) == 0 || slices.Min(c.Rates) < 1 || c.Rate < 2:
		return errors.New("--rates must be 1 or more, --rate 2 or more")
	case c.Duration < 9*time.Second || c.Held < 4*time.Second || c.Idle < time.Second || c.ReadDuration < time.Second:
		return errors.New("--duration must be 9s or more, --held 4s, --idle and --read-duration 1s")
	case len(c.Connections) == 0 || slices.Min(c.Connections) < 1:
		return errors.New("--connections must be 1 or more")
	case slices.Max(c.Connections) > httpapi.DefaultMaxRequests/2:
		return fmt.Errorf("--connections must be %d at most, as many as the api answers one caller at once", httpapi.DefaultMaxRequests/2)
	case len(chosen(c.Endpoint)) == 0:
		return fmt.Errorf("--endpoint=%s: no endpoint has that in its path; they are\n%s", c.Endpoint, strings.Join(endpoints, "\n"))
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c cli
	kong.Parse(&c, kong.Name("bench"), kong.Description(
		"Measures Daybook beside what it is compared with, and prints a table in Markdown. What is worse than wanted is not an error."))
	if err := c.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// works are the rows in the order in which they are measured: what only reads comes before what writes, and what leaves the rollups
// behind the source comes last.
var works = []struct {
	key     string
	measure func(*bench, context.Context) error
}{
	{"backfill", (*bench).backfill},
	{"space", (*bench).space},
	{"idle", (*bench).idle},
	{"verify", (*bench).verify},
	{"read", (*bench).read},
	{"rebuild", (*bench).rebuild},
	{"apply", (*bench).apply},
	{"backlog", (*bench).backlog},
	{"freshness", (*bench).freshness},
	{"disturb", (*bench).disturb},
	{"queue", (*bench).queue},
	{"write", (*bench).write},
	{"scale", (*bench).scale},
	{"memory", (*bench).memory},
}

// loads are the rows during which memory counts.
var loads = []string{"backfill", "read", "backlog", "freshness"}

func (c *cli) wants(key string) bool {
	return (len(c.Only) == 0 && key != "scale") || slices.Contains(c.Only, key) || (slices.Contains(c.Only, "memory") && slices.Contains(loads, key))
}

// bench is a run.
type bench struct {
	cli
	hosts  map[string]*host
	peaks  peaks
	report report
}

func (c *cli) run(ctx context.Context) error {
	b := &bench{cli: *c, hosts: make(map[string]*host)}
	measured := b.measure(ctx)
	if len(b.report.results) == 0 {
		return errors.Join(measured, b.dropHosts(ctx))
	}
	described := b.describe(context.WithoutCancel(ctx))
	b.report.write(os.Stdout)
	var written error
	if c.Write != "" && measured == nil {
		written = b.report.writeDocument(c.Write)
	}
	return errors.Join(measured, described, written, b.dropHosts(ctx))
}

// measure ends with the first error. What was measured before is still worth reading.
func (b *bench) measure(ctx context.Context) error {
	for _, w := range works {
		if !b.wants(w.key) {
			continue
		}
		say("%s", w.key)
		if err := w.measure(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", w.key, err)
		}
	}
	return nil
}

var begin = time.Now()

// say says what is being done, and since when.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %5s  %s\n", time.Since(begin).Round(time.Second), fmt.Sprintf(format, args...))
}

func timed(do func() error) (time.Duration, error) {
	start := time.Now()
	err := do()
	return time.Since(start), err
}

// median is that of the two in the middle, where there are two.
func median[T float64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// quantile is of a sorted list.
func quantile[T float64 | time.Duration](sorted []T, q float64) T {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

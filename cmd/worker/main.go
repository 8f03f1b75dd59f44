// Command worker keeps Daybook's rollups: it drains changes into them, rebuilds runtimes whose time zone changed, and manages
// the schema daybook.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/build"
	"daybook/internal/logging"
	"daybook/internal/postgres"
	"daybook/internal/secretfile"
)

const description = `Daybook keeps exact daily rollups of LLM token usage inside the Postgres that holds the usage.

A first installation is: worker migrate up, worker backfill, and worker run on as many machines as you like.`

// connectTimeout bounds an attempt to connect, unless the URL has a connect_timeout. An attempt that nothing answers keeps its place in the pool.
const connectTimeout = 10 * time.Second

// cli is every command and flag. Each flag has the environment variable that its help names.
type cli struct {
	DatabaseURL string         `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"Postgres of the host, as postgres://user:password@host/database."`
	Log         logging.Config `embed:""`

	Version kong.VersionFlag `help:"Print the version and exit."`

	Run      runCmd      `cmd:"" default:"withargs" help:"Drain changes and rebuild runtimes until stopped (the default)."`
	Migrate  migrateCmd  `cmd:"" help:"Create, update, inspect or remove the schema daybook."`
	Attach   attachCmd   `cmd:"" help:"Put the triggers on the host's tables."`
	Detach   detachCmd   `cmd:"" help:"Take the triggers off; from then on changes are not counted."`
	Backfill backfillCmd `cmd:"" help:"Count everything that the host already has. Stop it and start it as you like."`
	Rebuild  rebuildCmd  `cmd:"" help:"Ask for a rebuild of runtimes; running workers do it."`
	Verify   verifyCmd   `cmd:"" help:"Compare the rollups with the source; exit with 1 if they differ, with 2 if there is no telling."`
	Requeue  requeueCmd  `cmd:"" help:"Try tasks in quarantine again; running workers do it."`
	Prune    pruneCmd    `cmd:"" help:"Close old days: remove the facts of their usage and keep their buckets as they are, for ever."`
	Status   statusCmd   `cmd:"" help:"Show how far the rollups are behind, who works on them, what is wrong and what to do. Exits with 0 whatever is wrong."`
}

// env is what commands get besides their flags.
type env struct {
	ctx    context.Context
	args   []string // all of the program
	pool   *pgxpool.Pool
	logger *slog.Logger
	stdout *os.File
	stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout *os.File, stderr io.Writer) int {
	var c cli
	exit := -1
	parser := kong.Must(&c, kong.Name("worker"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Resolvers(secretfile.From("DATABASE_URL")), kong.Vars{"version": build.Get().String()})
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "worker: %v\nSee worker --help.\n", err)
		return 2
	}
	if c.DatabaseURL == "" {
		fmt.Fprintln(stderr, "worker: DATABASE_URL is empty: set it to the Postgres of the host, or use --database-url")
		return 2
	}
	config, err := pgxpool.ParseConfig(c.DatabaseURL)
	if err != nil {
		// The error of ParseConfig shows the URL without its password.
		fmt.Fprintf(stderr, "worker: DATABASE_URL: %v\n", err)
		return 2
	}
	config.MaxConns = max(config.MaxConns, c.Run.connections())
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "daybook-worker"
	}
	pool, err := postgres.Open(ctx, config, nil)
	if err != nil {
		fmt.Fprintf(stderr, "worker: %v\n", err)
		return 1
	}
	defer pool.Close()
	err = parsed.Run(&env{ctx: ctx, args: args, pool: pool, logger: c.Log.New(stderr), stdout: stdout, stderr: stderr})
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "worker: stopped")
		return 130
	}
	fmt.Fprintf(stderr, "worker: %v\n", err)
	if _, usage := errors.AsType[usageError](err); usage || errors.Is(err, errCannotTell) {
		return 2
	}
	return 1
}

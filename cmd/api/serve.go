package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/httpapi"
	"daybook/internal/postgres"
	"daybook/internal/server"
	"daybook/internal/sysmon"
	"daybook/migrations"
)

const (
	// connectTimeout bounds an attempt to connect, unless the URL has a connect_timeout. An attempt outlives its request and keeps
	// its place in the pool, so with pgx's two minutes a server that did not answer would be missed for two minutes more.
	connectTimeout = 3 * time.Second
	// statementSpare is how much longer than the request Postgres lets a statement run. The api cancels it in time; this is for an
	// api that cannot.
	statementSpare = time.Second
	// minConnections is the size of the pool, unless the URL has a pool_max_conns: enough for statements that wait for the disk.
	minConnections = 10
)

type serveCmd struct {
	DatabaseURL      string        `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"Postgres of the host, as postgres://user:password@host/database. A role that may only read is enough; a hot standby will do."`
	Addr             string        `env:"DAYBOOK_API_ADDR" default:"127.0.0.1:8080" help:"Address to serve on."`
	MetricsAddr      string        `name:"metrics-addr" env:"DAYBOOK_API_METRICS_ADDR" default:"127.0.0.1:9464" help:"Address to serve Prometheus metrics on, at /metrics."`
	Source           string        `env:"DAYBOOK_API_SOURCE" default:"rollup" enum:"rollup,source" help:"Where usage is read from: rollup, or source for the host's own tables, which gives the same answers and is slower."`
	Timeout          time.Duration `env:"DAYBOOK_API_TIMEOUT" help:"Time for a request. Default 2.5s, or 1m with --source=source."`
	MaxRequests      int           `name:"max-requests" env:"DAYBOOK_API_MAX_REQUESTS" default:"256" help:"Requests that are answered at once; more get 503. One caller may have half of them; more get 429."`
	CORSOrigins      []string      `name:"cors-origin" env:"DAYBOOK_API_CORS_ORIGINS" placeholder:"ORIGIN" help:"Origin whose pages may call the api, such as https://example.com. May be given more than once. Default none."`
	AllowWrites      bool          `name:"allow-writes" env:"DAYBOOK_API_ALLOW_WRITES" help:"Serve PATCH and DELETE of runtimes. Needs --write-database-url."`
	WriteDatabaseURL string        `name:"write-database-url" env:"DAYBOOK_API_WRITE_DATABASE_URL" placeholder:"URL" help:"Postgres of the host with a role that may change runtimes."`
	JWKSURL          string        `name:"jwks-url" env:"DAYBOOK_JWKS_URL" placeholder:"URL" help:"Where the public keys are that tokens are signed with (RS256, ES256, EdDSA)."`
	JWTAlgorithms    []string      `name:"jwt-algorithms" env:"DAYBOOK_JWT_ALGORITHMS" placeholder:"ALG" help:"The only algorithms to take. Default all that --jwt-secret and --jwks-url can verify."`
	JWTLeeway        time.Duration `name:"jwt-leeway" env:"DAYBOOK_JWT_LEEWAY" default:"30s" help:"How far the clocks of who signs tokens may be apart from this one, at most 1m."`
}

// check returns an error that says what to change.
func (c *serveCmd) check() error {
	switch {
	case c.DatabaseURL == "":
		return errors.New("DATABASE_URL is empty: set it to the Postgres of the host, or use --database-url")
	case c.AllowWrites && c.WriteDatabaseURL == "":
		return errors.New("--allow-writes needs --write-database-url, with a role that may change runtimes")
	case !c.AllowWrites && c.WriteDatabaseURL != "":
		return errors.New("--write-database-url is of no use without --allow-writes: give both or neither")
	case c.Timeout < 0 || (c.Timeout > 0 && c.Timeout < 100*time.Millisecond):
		return fmt.Errorf("--timeout must be 100ms or more, not %s", c.Timeout)
	case c.MaxRequests < 1:
		return fmt.Errorf("--max-requests must be 1 or more, not %d", c.MaxRequests)
	}
	for _, origin := range c.CORSOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") || u.Path != "" || u.RawQuery != "" ||
			u.User != nil || strings.Contains(origin, "*") {
			return fmt.Errorf("--cors-origin must be as https://example.com, without a path and without *, not %q", origin)
		}
	}
	return nil
}

// gcPercent trades memory for CPU: the api keeps next to nothing between requests, so with Go's default it would collect garbage all the
// time to stay below some 10 MiB.
const gcPercent = 400

// heapLimit makes it collect more often before the process needs 64 MiB.
const heapLimit = 40 << 20

// shareCores leaves half of the cores to Postgres where it is on the same machine, unless the environment says how many to use. An answer is mostly
// waiting, and to wake another core for each step of it costs more than it gains.
func shareCores(database *pgx.ConnConfig) {
	if os.Getenv("GOMAXPROCS") == "" && isLocal(database) {
		runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2))
	}
}

// isLocal tells whether a database is on this machine, by a socket of its file system or by its address.
func isLocal(database *pgx.ConnConfig) bool {
	network, _ := pgconn.NetworkAddress(database.Host, database.Port)
	ip, err := netip.ParseAddr(database.Host)
	return network == "unix" || database.Host == "localhost" || (err == nil && ip.IsLoopback())
}

// Run serves until the context of e is done, then lets running requests finish.
func (c *serveCmd) Run(e *env) error {
	if err := c.check(); err != nil {
		return usageError{err}
	}
	sysmon.StayAwake(e.ctx, e.args)
	tokens, err := e.tokens(c.JWKSURL, c.JWTAlgorithms, c.JWTLeeway)
	if err != nil {
		return err
	}
	source := httpapi.Source(c.Source)
	timeout := cmp.Or(c.Timeout, source.DefaultTimeout())
	pool, err := connect(e.ctx, "DATABASE_URL", c.DatabaseURL, readSettings(timeout))
	if err != nil {
		return err
	}
	defer pool.Close()
	config := httpapi.Config{
		Pool: pool, Tokens: tokens, Logger: e.logger, Source: source, Timeout: timeout,
		MaxRequests: c.MaxRequests, CORSOrigins: c.CORSOrigins,
		Ready: func(ctx context.Context) error { return migrations.CheckCurrent(ctx, pool) },
	}
	if c.AllowWrites {
		config.WritePool, err = connect(e.ctx, "DAYBOOK_API_WRITE_DATABASE_URL", c.WriteDatabaseURL, writeSettings())
		if err != nil {
			return err
		}
		defer config.WritePool.Close()
	}
	api, err := httpapi.New(config)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapLimit)
	}
	shareCores(pool.Config().ConnConfig)
	longest := timeout
	if c.AllowWrites {
		longest = max(longest, httpapi.ManageTimeout)
	}
	group, ctx := errgroup.WithContext(e.ctx)
	var servers []func() error
	for _, l := range []struct {
		name, addr, flag string
		handler          http.Handler
	}{
		{"api", c.Addr, "--addr or DAYBOOK_API_ADDR", api},
		{"metrics", c.MetricsAddr, "--metrics-addr or DAYBOOK_API_METRICS_ADDR", api.Metrics()},
	} {
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%w; choose another address with %s", err, l.flag)
		}
		defer listener.Close() //nolint:errcheck // Serving has closed it, unless it did not begin.
		servers = append(servers, func() error { return server.Serve(ctx, listener, l.handler, longest, e.logger) })
		e.logger.Info("listening", slog.String("server", l.name), slog.String("addr", listener.Addr().String()))
	}
	// Nobody is served before all addresses are known to be free.
	for _, serve := range servers {
		group.Go(serve)
	}
	<-ctx.Done()
	e.logger.Info("api stopping")
	return group.Wait()
}

// readSettings are the settings of connections that read: every transaction is read-only, whatever the role may do, fails rather than
// overlook what a policy hides, and ends after the request's timeout even if the api cannot end it. Statements are short, and Postgres
// would compile them for what they could read while a rebuild is pending: 50 ms each time.
func readSettings(timeout time.Duration) map[string]string {
	return map[string]string{
		"default_transaction_read_only": "on",
		"row_security":                  "off",
		"jit":                           "off",
		"statement_timeout":             strconv.FormatInt((timeout + statementSpare).Milliseconds(), 10),
	}
}

// writeSettings are those of connections that change runtimes. A lock of the host's is waited for only briefly, and an api that stands
// still keeps none.
func writeSettings() map[string]string {
	return map[string]string{
		"statement_timeout":                   strconv.FormatInt((httpapi.ManageTimeout + statementSpare).Milliseconds(), 10),
		"lock_timeout":                        "2s",
		"idle_in_transaction_session_timeout": "5s",
	}
}

// connect makes a pool for the URL that name is the variable of. It connects when it is first used. What the URL sets itself stays.
func connect(ctx context.Context, name, databaseURL string, settings map[string]string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "daybook-api"
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if !strings.Contains(databaseURL, "pool_max_conns") {
		config.MaxConns = max(config.MaxConns, minConnections)
	}
	return postgres.Open(ctx, config, settings)
}

// Command api serves the usage that Daybook's workers keep. It is stateless and reads only.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/httpapi"
	"daybook/internal/logging"
)

const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	// connectTimeout bounds an attempt to connect, unless the URL has a connect_timeout. An attempt outlives its request and keeps
	// its place in the pool, so with pgx's two minutes a server that did not answer would be missed for two minutes more.
	connectTimeout = 3 * time.Second
	stopTimeout    = 10 * time.Second
	// minSecret is the length in bytes of a secret that is as strong as HS256 (RFC 7518, section 3.2).
	minSecret = 32
)

const description = `Serves the usage rollups that Daybook's workers keep, to the members of each workspace.`

// cli is every command and flag. Each flag has the environment variable that its help names.
type cli struct {
	JWTSecret string         `name:"jwt-secret" env:"JWT_SECRET" required:"" placeholder:"SECRET" help:"Secret that bearer tokens are signed with (HS256), 32 bytes or more."`
	Log       logging.Config `embed:""`

	Serve serveCmd `cmd:"" default:"withargs" help:"Serve until stopped (the default)."`
	Token tokenCmd `cmd:"" help:"Print a token for a user, for trying the api out."`
}

type env struct {
	ctx    context.Context
	tokens *httpapi.Tokens
	secret []byte
	logger *slog.Logger
	stdout io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exit := -1
	parser := kong.Must(&c, kong.Name("api"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }))
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "api: %v\nSee api --help.\n", err)
		return 2
	}
	tokens, err := httpapi.NewTokens([]byte(c.JWTSecret))
	if err != nil {
		fmt.Fprintf(stderr, "api: %v\n", err)
		return 2
	}
	e := &env{ctx: ctx, tokens: tokens, secret: []byte(c.JWTSecret), logger: c.Log.New(stderr), stdout: stdout}
	if err := parsed.Run(e); err != nil {
		fmt.Fprintf(stderr, "api: %v\n", err)
		return 1
	}
	return 0
}

type serveCmd struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" required:"" placeholder:"URL" help:"Postgres of the host, as postgres://user:password@host/database. A role that may only read is enough."`
	Addr        string `env:"DAYBOOK_API_ADDR" default:"127.0.0.1:8080" help:"Address to serve on."`
	MetricsAddr string `name:"metrics-addr" env:"DAYBOOK_API_METRICS_ADDR" default:"127.0.0.1:9464" help:"Address to serve Prometheus metrics on, at /metrics."`
}

// Run serves until the context of e is done, then lets running requests finish.
func (c *serveCmd) Run(e *env) error {
	if c.DatabaseURL == "" {
		return errors.New("DATABASE_URL is empty: set it to the Postgres of the host, or use --database-url")
	}
	config, err := pgxpool.ParseConfig(c.DatabaseURL)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "daybook-api"
	}
	// Every transaction is read-only, whatever the role may do.
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	pool, err := pgxpool.NewWithConfig(e.ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if len(e.secret) < minSecret {
		e.logger.Warn("JWT_SECRET is shorter than 32 bytes: tokens can be forged by guessing it")
	}
	handler, err := httpapi.New(httpapi.Config{Pool: pool, JWTSecret: e.secret, Logger: e.logger})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(e.ctx)
	var servers []func() error
	for _, l := range []struct {
		name, addr, flag string
		handler          http.Handler
	}{
		{"api", c.Addr, "--addr or DAYBOOK_API_ADDR", handler},
		{"metrics", c.MetricsAddr, "--metrics-addr or DAYBOOK_API_METRICS_ADDR", httpapi.MetricsHandler(pool, e.logger)},
	} {
		listener, err := net.Listen("tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%w; choose another address with %s", err, l.flag)
		}
		defer listener.Close() //nolint:errcheck // Serving has closed it, unless it did not begin.
		servers = append(servers, func() error { return e.serve(ctx, listener, l.handler) })
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

// serve serves until ctx is done, then lets running requests finish.
func (e *env) serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(e.logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

type tokenCmd struct {
	User string        `required:"" placeholder:"UUID" help:"Id of the user that the token is for."`
	TTL  time.Duration `default:"24h" help:"How long the token is good for."`
}

// Run prints a token.
func (c *tokenCmd) Run(e *env) error {
	user, err := httpapi.ParseUUID(c.User)
	if err != nil {
		return fmt.Errorf("--user: %q is %w", c.User, err)
	}
	if c.TTL <= 0 {
		return fmt.Errorf("--ttl must be more than 0, not %s", c.TTL)
	}
	token, err := e.tokens.Sign(user, c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, token)
	return nil
}

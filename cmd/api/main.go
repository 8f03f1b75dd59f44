// Command api serves the usage that Daybook's workers keep. It is stateless, and reads only unless it is told otherwise.
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

	"daybook/internal/build"
	"daybook/internal/httpapi"
	"daybook/internal/logging"
	"daybook/internal/secretfile"
)

const description = `Serves the usage rollups that Daybook's workers keep, to the members of each workspace.`

// cli is every command and flag. Each flag has the environment variable that its help names.
type cli struct {
	JWTSecret   string         `name:"jwt-secret" env:"JWT_SECRET" placeholder:"SECRET" help:"Secret that tokens are signed with (HS256), 32 bytes or more. Needed unless --jwks-url is given."`
	JWTIssuer   string         `name:"jwt-issuer" env:"DAYBOOK_JWT_ISSUER" placeholder:"ISS" help:"The iss that tokens must have. Not checked if empty."`
	JWTAudience string         `name:"jwt-audience" env:"DAYBOOK_JWT_AUDIENCE" placeholder:"AUD" help:"The aud that tokens must have. Not checked if empty."`
	Demo        bool           `env:"DAYBOOK_DEMO" help:"Take a JWT_SECRET that is too short to be safe. For trying out only."`
	Log         logging.Config `embed:""`

	Version kong.VersionFlag `help:"Print the version and exit."`

	Serve   serveCmd   `cmd:"" default:"withargs" help:"Serve until stopped (the default)."`
	Token   tokenCmd   `cmd:"" help:"Print a token for a user, for trying the api out."`
	OpenAPI openAPICmd `cmd:"" name:"openapi" help:"Print the description of the API (OpenAPI 3.1, YAML)."`
}

type env struct {
	ctx    context.Context
	args   []string // all of the program
	cli    *cli
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
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exit = code }),
		kong.Resolvers(secretfile.From("DATABASE_URL", "JWT_SECRET", "DAYBOOK_API_WRITE_DATABASE_URL")), kong.Vars{"version": build.Get().String()})
	parsed, err := parser.Parse(args)
	if exit >= 0 {
		return exit // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "api: %v\nSee api --help.\n", err)
		return 2
	}
	logger, flush := c.Log.NewBuffered(stderr)
	e := &env{ctx: ctx, args: args, cli: &c, logger: logger, stdout: stdout}
	err = parsed.Run(e)
	flush()
	if err != nil {
		fmt.Fprintf(stderr, "api: %v\n", err)
		if _, usage := errors.AsType[usageError](err); usage {
			return 2
		}
		return 1
	}
	return 0
}

// usageError is an error in flags or environment that only a command finds.
type usageError struct{ error }

// tokens returns what verifies tokens. The flags for keys are those of serve.
func (e *env) tokens(jwksURL string, algorithms []string, leeway time.Duration) (*httpapi.Tokens, error) {
	tokens, err := httpapi.NewTokens(e.ctx, httpapi.TokenConfig{
		Secret: []byte(e.cli.JWTSecret), AllowShortSecret: e.cli.Demo, JWKSURL: jwksURL, Algorithms: algorithms,
		Issuer: e.cli.JWTIssuer, Audience: e.cli.JWTAudience, Leeway: leeway, Logger: e.logger,
	})
	if err != nil {
		return nil, usageError{err}
	}
	return tokens, nil
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
	if e.cli.JWTSecret == "" {
		return usageError{errors.New("JWT_SECRET is not set: it is the secret that tokens are signed with")}
	}
	if _, err := e.tokens("", nil, httpapi.DefaultLeeway); err != nil {
		return err // A token that the api would not take is of no use.
	}
	token, err := httpapi.SignToken([]byte(e.cli.JWTSecret), user, e.cli.JWTIssuer, e.cli.JWTAudience, c.TTL)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, token)
	return nil
}

type openAPICmd struct{}

// Run prints the description.
func (openAPICmd) Run(e *env) error {
	_, err := e.stdout.Write(httpapi.OpenAPI)
	return err
}

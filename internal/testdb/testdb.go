// Package testdb gives every test a database of its own on a real Postgres, cloned from a template in some tens of milliseconds.
// The database is dropped when the test passes, and kept and named when it fails.
package testdb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"io/fs"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // The driver that pgtestdb opens.

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/peterldowns/pgtestdb"

	"daybook/internal/demo"
	"daybook/internal/postgres"
	"daybook/migrations"
)

// maxConns is enough for a handful of writers and workers at once.
const maxConns = 24

// New returns a database with the demo host's schema and Daybook's, triggers attached, and no rows.
func New(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, &template{migrated: true})
}

// NewHost returns a database with the demo host's schema alone.
func NewHost(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, &template{})
}

// Open returns another pool on the database of pool, closed when the test ends. Configure may change its configuration.
func Open(tb testing.TB, pool *pgxpool.Pool, configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	return connect(tb, pool.Config().ConnString(), configure...)
}

func open(tb testing.TB, t *template) *pgxpool.Pool {
	tb.Helper()
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		tb.Fatal("tests need a Postgres: run them with `make test`, or set DATABASE_URL to a superuser of a server for tests")
	}
	server, err := pgx.ParseConfig(url)
	if err != nil {
		tb.Fatalf("DATABASE_URL: %v", err)
	}
	config := pgtestdb.Custom(tb, pgtestdb.Config{
		DriverName: "pgx",
		User:       server.User,
		Password:   server.Password,
		Host:       server.Host,
		Port:       strconv.Itoa(int(server.Port)),
		Database:   server.Database,
		Options:    "sslmode=prefer",
		TestRole: &pgtestdb.Role{
			Username: "daybook_test", Password: pgtestdb.DefaultRolePassword, Capabilities: "SUPERUSER",
		},
		ForceTerminateConnections: true,
	}, t)
	return connect(tb, config.URL())
}

func connect(tb testing.TB, url string, configure ...func(*pgxpool.Config)) *pgxpool.Pool {
	tb.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		tb.Fatal(err)
	}
	config.MaxConns = maxConns
	config.AfterConnect = postgres.EncodeArrays
	for _, c := range configure {
		c(config)
	}
	pool, err := pgxpool.NewWithConfig(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(pool.Close)
	return pool
}

// template makes the database that the tests' databases are cloned from.
type template struct {
	migrated bool
}

// Hash names the template by everything that it is made of.
func (t *template) Hash() (string, error) {
	h := sha256.New()
	h.Write([]byte(demo.HostSQL))
	if t.migrated {
		err := fs.WalkDir(migrations.Files(), ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(migrations.Files(), path)
			h.Write(b)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Migrate fills the template.
func (t *template) Migrate(ctx context.Context, _ *sql.DB, config pgtestdb.Config) error {
	pool, err := pgxpool.New(ctx, config.URL())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := demo.CreateHost(ctx, pool); err != nil {
		return err
	}
	if !t.migrated {
		return nil
	}
	_, err = migrations.Up(ctx, pool)
	return err
}

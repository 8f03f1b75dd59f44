// Package migrations owns the schema daybook: it makes it, brings it up to date and removes it without a trace, and puts the
// triggers on the host's tables and takes them off. The SQL is embedded in the binary.
//
// It hardly makes the host wait: whatever locks a host table gives up after LockTimeout, lets the host's writes pass, and tries
// again a few times.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"daybook/internal/postgres"
)

// Schema is where everything of Daybook's lives, River's tables too.
const Schema = "daybook"

// LockTimeout bounds how long one attempt waits for one of the host's five tables, and so how long the host's writes can queue
// up behind it: half a second at the worst. The migration that locks them names the same value.
const LockTimeout = 100 * time.Millisecond

const (
	// lockAttempts is how often a lock is tried before ErrBusy: for a few seconds in all.
	lockAttempts = 10
	// lockPause lets the host's writes pass between two attempts.
	lockPause = 200 * time.Millisecond
)

//go:embed *.sql
var files embed.FS

//go:embed sql/*.sql
var statements embed.FS

// Files returns the migrations as they are embedded.
func Files() fs.FS { return files }

// lockMigrate is the key of the advisory lock that lets one migration run at a time.
const lockMigrate int64 = 0x6461_7962_6f6f_6b00

var (
	// ErrBusy says that a host table could not be locked within LockTimeout. Nothing was changed on the host.
	ErrBusy = errors.New("a host table is in use by a long transaction; nothing was changed on it")
	// ErrOutdated says that the schema is missing or older than this program.
	ErrOutdated = errors.New("the schema daybook is not up to date; run: worker migrate up")
)

// Status is one migration and when it was applied, in UTC; zero if it was not.
type Status struct {
	Name      string
	AppliedAt time.Time
}

func statement(name string) string {
	b, err := fs.ReadFile(statements, "sql/"+name+".sql")
	if err != nil {
		panic(err) // Embedded: the name is wrong.
	}
	return string(b)
}

// Up brings the schema up to date and returns the names of the migrations that it applied. It is a no-op when there is nothing
// to do. It checks first that the host has all that Daybook needs: the error is a *HostError that lists what is missing.
// Calls at the same time wait for each other.
func Up(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	if err := CheckHost(ctx, pool); err != nil {
		return nil, err
	}
	var applied []string
	err := exclusively(ctx, pool, func() error {
		if _, err := pool.Exec(ctx, statement("create_schema")); err != nil {
			return fmt.Errorf("create schema: %w", err)
		}
		river, err := riverMigrator(pool)
		if err != nil {
			return err
		}
		result, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil)
		if err != nil {
			return fmt.Errorf("migrate river: %w", err)
		}
		for _, v := range result.Versions {
			applied = append(applied, fmt.Sprintf("river %03d_%s", v.Version, v.Name))
		}
		return withProvider(pool, func(p *goose.Provider) error {
			err := patiently(ctx, func() error {
				results, err := p.Up(ctx)
				if partial, ok := errors.AsType[*goose.PartialError](err); ok {
					results = partial.Applied
				}
				for _, r := range results {
					applied = append(applied, r.Source.Path)
				}
				return err
			})
			return explain(ctx, pool, err, writers)
		})
	})
	if err != nil {
		return applied, err
	}
	return applied, noteEmptyHost(ctx, pool)
}

// noteEmptyHost notes that a host which has no tasks yet needs no backfill.
func noteEmptyHost(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, statement("note_empty_host")); err != nil {
		return fmt.Errorf("look whether the host has tasks: %w", err)
	}
	return nil
}

// Down removes the schema and everything in it, and the triggers. The host is left as it was before Up.
func Down(ctx context.Context, pool *pgxpool.Pool) error {
	return exclusively(ctx, pool, func() error {
		exists := false
		if err := pool.QueryRow(ctx, statement("schema_exists")).Scan(&exists); err != nil || !exists {
			return err
		}
		err := withProvider(pool, func(p *goose.Provider) error {
			err := patiently(ctx, func() error {
				_, err := p.DownTo(ctx, 0)
				return err
			})
			return explain(ctx, pool, err, readersToo)
		})
		if err != nil {
			return err
		}
		// River's tables go with the schema. Its own way down would fail on jobs that were unique for some of their states only.
		if _, err := pool.Exec(ctx, statement("drop_schema")); err != nil {
			return err
		}
		_, err = pool.Exec(ctx, statement("drop_roles"))
		return err
	})
}

// List returns every migration of this program in order, and which are applied.
func List(ctx context.Context, pool *pgxpool.Pool) ([]Status, error) {
	exists := false
	if err := pool.QueryRow(ctx, statement("schema_exists")).Scan(&exists); err != nil {
		return nil, err
	}
	var list []Status
	if !exists {
		names, err := fs.Glob(files, "*.sql")
		for _, name := range names {
			list = append(list, Status{Name: name})
		}
		return list, err
	}
	err := withProvider(pool, func(p *goose.Provider) error {
		statuses, err := p.Status(ctx)
		for _, s := range statuses {
			list = append(list, Status{Name: s.Source.Path, AppliedAt: s.AppliedAt})
		}
		return err
	})
	return list, err
}

// CheckCurrent returns ErrOutdated unless every migration is applied, River's too.
func CheckCurrent(ctx context.Context, pool *pgxpool.Pool) error {
	list, err := List(ctx, pool)
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	for _, s := range list {
		if s.AppliedAt.IsZero() {
			return ErrOutdated
		}
	}
	river, err := riverMigrator(pool)
	if err != nil {
		return err
	}
	result, err := river.Validate(ctx, nil)
	if err != nil {
		return fmt.Errorf("check river's migrations: %w", err)
	}
	if !result.OK {
		return ErrOutdated
	}
	return nil
}

// Attach puts the triggers on the host's tables; those that are on are replaced by the same. What the host changed while they
// were off is counted by a backfill. It returns ErrBusy rather than make the host wait.
func Attach(ctx context.Context, pool *pgxpool.Pool) error {
	if err := CheckHost(ctx, pool); err != nil {
		return err
	}
	if err := callWithLockTimeout(ctx, pool, statement("attach"), writers); err != nil {
		return err
	}
	return noteEmptyHost(ctx, pool)
}

// Detach takes the triggers off. From then on the host's changes are not counted. It returns ErrBusy rather than make the
// host wait.
func Detach(ctx context.Context, pool *pgxpool.Pool) error {
	return callWithLockTimeout(ctx, pool, statement("detach"), readersToo)
}

func callWithLockTimeout(ctx context.Context, pool *pgxpool.Pool, sql string, b blockers) error {
	err := patiently(ctx, func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			timeout := fmt.Sprintf("%dms", LockTimeout.Milliseconds())
			if _, err := tx.Exec(ctx, statement("set_lock_timeout"), timeout); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, sql)
			return err
		})
	})
	return explain(ctx, pool, err, b)
}

// patiently does again what fails for want of a lock. Each attempt is a transaction that keeps nothing when it fails.
func patiently(ctx context.Context, do func() error) error {
	pause := time.NewTicker(lockPause)
	defer pause.Stop()
	for attempt := 1; ; attempt++ {
		err := do()
		if attempt == lockAttempts || !isLockTimeout(err) {
			return err
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// isLockTimeout tells whether err is lock_timeout (SQLSTATE 55P03).
func isLockTimeout(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "55P03"
}

// exclusively runs do while no other migration runs. The lock ends with its transaction, whatever happens to this process. It
// has a connection of its own: those who wait for the lock must not keep the pool's from the one who has it.
func exclusively(ctx context.Context, pool *pgxpool.Pool, do func() error) error {
	conn, err := postgres.Connect(ctx, pool)
	if err != nil {
		return fmt.Errorf("lock migrations: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // The transaction has ended by then.
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, statement("lock_migrate"), lockMigrate); err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		return do()
	})
}

func withProvider(pool *pgxpool.Pool, do func(*goose.Provider) error) error {
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close() //nolint:errcheck // It only returns connections to the pool.
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(Schema+".schema_migration"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return do(p)
}

func riverMigrator(pool *pgxpool.Pool) (*rivermigrate.Migrator[pgx.Tx], error) {
	return rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: Schema})
}

// blockers says which transactions are in the way of a change to a host table.
type blockers bool

const (
	writers    blockers = false // Creating a trigger waits for these alone.
	readersToo blockers = true  // Dropping a trigger waits for everybody.
)

// explain turns a lock timeout into ErrBusy with the transactions that are in the way.
func explain(ctx context.Context, pool *pgxpool.Pool, err error, b blockers) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	if !isLockTimeout(err) {
		if pgErr.Hint != "" {
			return fmt.Errorf("%w. %s", err, pgErr.Hint)
		}
		return err
	}
	rows, qerr := pool.Query(ctx, statement("list_blockers"), bool(b))
	if qerr != nil {
		return ErrBusy
	}
	found, qerr := pgx.CollectRows(rows, pgx.RowTo[string])
	if qerr != nil || len(found) == 0 {
		return fmt.Errorf("%w; try again", ErrBusy)
	}
	return fmt.Errorf("%w; try again when these have ended: %v", ErrBusy, found)
}

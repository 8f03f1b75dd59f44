// Package demo makes a host application to try Daybook on: the host's tables, a history of tasks with their token
// usage, and a writer that goes on from there as a live host would.
//
// It keeps demo data out of real data: it creates its tables only in a database whose schema public is empty, and
// fills only tables that have no rows.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// HostSQL creates the tables of a host in the schema public.
//
//go:embed host.sql
var HostSQL string

var (
	//go:embed mark_host.sql
	markHostSQL string
	//go:embed survey_host.sql
	surveyHostSQL string
	//go:embed survey_rows.sql
	surveyRowsSQL string
	//go:embed describe_users.sql
	describeUsersSQL string
	//go:embed describe_runtimes.sql
	describeRuntimesSQL string
)

// ErrForeign means that the schema public belongs to something else than a demo host.
var ErrForeign = errors.New("database is not a demo host")

// ErrFilled means that the host has rows already.
var ErrFilled = errors.New("host has data already")

// DB is what this package needs of a connection, a pool or a transaction.
type DB interface {
	Begin(ctx context.Context) (pgx.Tx, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// CreateHost creates the host's tables and marks them as a demo. It does nothing where that has been done before,
// and returns ErrForeign where the schema public holds any other table or view.
func CreateHost(ctx context.Context, db DB) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		found, err := surveyHost(ctx, tx)
		if err != nil {
			return err
		}
		if found.marked {
			return nil
		}
		if len(found.relations) > 0 {
			return foreignError(found.relations)
		}
		if _, err := tx.Exec(ctx, HostSQL); err != nil {
			return fmt.Errorf("create demo host: %w", err)
		}
		if _, err := tx.Exec(ctx, markHostSQL); err != nil {
			return fmt.Errorf("mark demo host: %w", err)
		}
		return nil
	})
}

// Filled reports whether the host has rows.
func Filled(ctx context.Context, db DB) (bool, error) {
	var filled bool
	if err := db.QueryRow(ctx, surveyRowsSQL).Scan(&filled); err != nil {
		return false, fmt.Errorf("look for rows in the host: %w", err)
	}
	return filled, nil
}

// Runtime is a runtime of the host, as people are told about it.
type Runtime struct {
	ID, Name, Timezone     string
	WorkspaceID, Workspace string // Workspace is the slug.
}

// Host tells who and what can be asked about in a host that Fill has filled. IDs are uuids in their usual text form.
type Host struct {
	Owner    string // owns every workspace
	Member   string // a member of the first workspace, acme, only
	Outsider string // belongs to no workspace
	Runtimes []Runtime
}

// Describe reads the Host back. A user who has been deleted since is left empty.
func Describe(ctx context.Context, db DB) (Host, error) {
	var host Host
	var email, id string
	rows, err := db.Query(ctx, describeUsersSQL) //nolint:rowserrcheck // ForEachRow returns it.
	if err != nil {
		return Host{}, fmt.Errorf("read demo users: %w", err)
	}
	_, err = pgx.ForEachRow(rows, []any{&email, &id}, func() error {
		switch name, _, _ := strings.Cut(email, "@"); name {
		case "owner":
			host.Owner = id
		case "member":
			host.Member = id
		case "outsider":
			host.Outsider = id
		}
		return nil
	})
	if err != nil {
		return Host{}, fmt.Errorf("read demo users: %w", err)
	}
	rows, err = db.Query(ctx, describeRuntimesSQL)
	if err != nil {
		return Host{}, fmt.Errorf("read demo runtimes: %w", err)
	}
	host.Runtimes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Runtime])
	if err != nil {
		return Host{}, fmt.Errorf("read demo runtimes: %w", err)
	}
	return host, nil
}

type survey struct {
	marked    bool
	relations []string // all in public, but those of extensions
	foreign   []string // those of them that a host does not have
}

func surveyHost(ctx context.Context, db DB) (survey, error) {
	var s survey
	if err := db.QueryRow(ctx, surveyHostSQL).Scan(&s.marked, &s.relations, &s.foreign); err != nil {
		return survey{}, fmt.Errorf("survey schema public: %w", err)
	}
	return s, nil
}

func foreignError(relations []string) error {
	const shown = 5
	names := strings.Join(relations[:min(shown, len(relations))], ", ")
	if len(relations) > shown {
		names += ", …"
	}
	return fmt.Errorf("%w: its schema public already holds %s; demo data is never mixed into it, give an empty database",
		ErrForeign, names)
}

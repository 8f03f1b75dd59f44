package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/postgres"
)

// RolesSQL returns the statements that CreateRoles runs, for an administrator to run who wants to read them first. The last lists what is left
// to grant.
func RolesSQL() string { return statement("roles") + "\n" + statement("check_roles") }

// MissingGrant is what the role that made the roles may not grant.
type MissingGrant struct {
	// Statement is for an administrator to run.
	Statement string
	// Optional tells that everything works without it, but what a remark in Statement says.
	Optional bool
}

// RolesResult says how well roles were made.
type RolesResult struct {
	// Warnings are those of Postgres, which only warns of a grant that does nothing.
	Warnings []string
	// Missing is what is left to grant; empty if all is well.
	Missing []MissingGrant
}

// CreateRoles makes the group roles daybook_owner, daybook_worker, daybook_api, daybook_api_write and daybook_metrics, none of which can log
// in, and gives each what it needs, and the schema daybook to the owner. It may be run again. The schema must be up to date. The pool's role must
// be allowed to create roles, or they are there, and it must be a member of daybook_owner. What else it may not grant is left out and returned;
// with an error nothing is changed.
func CreateRoles(ctx context.Context, pool *pgxpool.Pool) (RolesResult, error) {
	var result RolesResult
	err := exclusively(ctx, pool, func() error {
		conn, err := postgres.Connect(ctx, pool, func(c *pgx.ConnConfig) {
			c.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
				if n.SeverityUnlocalized == "WARNING" {
					result.Warnings = append(result.Warnings, n.Message)
				}
			}
		})
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // The transaction has ended by then.
		result.Warnings = nil                        // Those of a connect are about the server.
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, statement("roles"))
			return err
		})
		if err != nil {
			return err
		}
		rows, err := conn.Query(ctx, statement("check_roles"))
		if err != nil {
			return err
		}
		result.Missing, err = pgx.CollectRows(rows, pgx.RowToStructByPos[MissingGrant])
		return err
	})
	if err != nil {
		return result, fmt.Errorf("create roles: %w", err)
	}
	return result, nil
}

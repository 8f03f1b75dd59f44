package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// RolesSQL returns the statements that CreateRoles runs, for an administrator to run who wants to read them first.
func RolesSQL() string { return statement("roles") }

// CreateRoles makes the group roles daybook_owner, daybook_worker, daybook_api, daybook_api_write and daybook_metrics, none of which can log
// in, and gives each what it needs, and the schema daybook to the owner. It does all of it or nothing, and may be run again. The schema must be
// up to date. The pool's role must be allowed to create roles and to grant what the host's tables allow.
func CreateRoles(ctx context.Context, pool *pgxpool.Pool) error {
	err := exclusively(ctx, pool, func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, RolesSQL())
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	return nil
}

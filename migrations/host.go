package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// HostError says that the database is not a host that Daybook can work on.
type HostError struct {
	// Problems is what is missing, one thing each.
	Problems []string
}

func (e *HostError) Error() string {
	return "this database lacks what Daybook needs of its host:\n  - " + strings.Join(e.Problems, "\n  - ")
}

// CheckHost returns a *HostError if the server is older than Postgres 15 or a table or column of the host's that Daybook relies on is
// missing. What is optional is not asked for.
func CheckHost(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, statement("check_host"))
	if err != nil {
		return fmt.Errorf("check host: %w", err)
	}
	problems, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("check host: %w", err)
	}
	if len(problems) > 0 {
		return &HostError{Problems: problems}
	}
	return nil
}

package testdb

import (
	"context"
	_ "embed"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed compare.sql
var compareSQL string

// Differences lists every bucket that differs from the plain GROUP BY on the host's tables, in one snapshot.
func Differences(ctx context.Context, pool *pgxpool.Pool) ([]string, error) {
	rows, err := pool.Query(ctx, compareSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// RequireExact fails the test unless every rollup equals the plain GROUP BY on the host's tables.
func RequireExact(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	differences, err := Differences(tb.Context(), pool)
	if err != nil {
		tb.Fatalf("compare: %v", err)
	}
	if n := len(differences); n > 0 {
		tb.Fatalf("%d buckets differ from the source:\n%s", n, strings.Join(differences[:min(n, 20)], "\n"))
	}
}

// Package queries holds the statements of Daybook and the Go code that sqlc makes of them, and no decisions.
package queries

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Batcher sends a batch. A connection is one.
type Batcher interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// Settings are settings of Postgres for one transaction.
type Settings struct {
	names, values []string
}

// NewSettings takes settings by name, as in postgresql.conf. A default of transactions becomes what the transaction is.
func NewSettings(settings map[string]string) Settings {
	var s Settings
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s.values = append(s.values, settings[name])
		if ofTransaction, isDefault := strings.CutPrefix(name, "default_transaction_"); isDefault {
			name = "transaction_" + ofTransaction
		}
		s.names = append(s.names, name)
	}
	return s
}

// Apply sets them for the rest of the transaction.
func (s Settings) Apply(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, applySettings, s.names, s.values)
	return err
}

// Settled runs each statement with settings of its own: behind a connection pooler a session has none. Both go in one round trip, which
// Postgres takes for one transaction.
func Settled(db Batcher, settings Settings) DBTX {
	return settled{db, settings}
}

type settled struct {
	db       Batcher
	settings Settings
}

func (s settled) send(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	batch := new(pgx.Batch)
	batch.Queue(applySettings, s.settings.names, s.settings.values)
	batch.Queue(sql, args...)
	results := s.db.SendBatch(ctx, batch)
	if _, err := results.Exec(); err != nil {
		results.Close() //nolint:errcheck // It has the same error.
		return nil, err
	}
	return results, nil
}

func (s settled) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	results, err := s.send(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	defer results.Close() //nolint:errcheck // It has the same error.
	return results.Exec()
}

func (s settled) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	results, err := s.send(ctx, sql, args)
	if err != nil {
		return nil, err
	}
	rows, err := results.Query() //nolint:rowserrcheck // The caller reads them.
	if err != nil {
		results.Close() //nolint:errcheck // It has the same error.
		return nil, err
	}
	return settledRows{rows, results}, nil
}

func (s settled) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	results, err := s.send(ctx, sql, args)
	return settledRow{results, err}
}

// settledRows ends the batch with its rows.
type settledRows struct {
	pgx.Rows
	results pgx.BatchResults
}

func (r settledRows) Close() {
	r.Rows.Close()
	r.results.Close() //nolint:errcheck // Err has it.
}

type settledRow struct {
	results pgx.BatchResults
	err     error
}

func (r settledRow) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.results.Close() //nolint:errcheck // Scan has it.
	return r.results.QueryRow().Scan(dest...)
}

package queries

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Pipeline makes the calls, each of one statement or of none, in one round trip and in their order. Where the connection takes no batch, each has one
// of its own. A call must not depend on what those before it return, and is made twice: first only to learn what to send, which ends with the
// statement and an error, and then with what was answered. It returns the first error, and makes no call after that.
//
// In a transaction, statements of READ COMMITTED have a snapshot each, as if they were sent one after the other.
func (q *Queries) Pipeline(ctx context.Context, calls ...func(*Queries) error) error {
	batcher, ok := q.db.(Batcher)
	if !ok || len(calls) == 1 {
		for _, call := range calls {
			if err := call(q); err != nil {
				return err
			}
		}
		return nil
	}
	var batch recorder
	sent := calls[:0:0]
	for _, call := range calls {
		err := call(&Queries{db: &batch})
		switch {
		case errors.Is(err, errRecorded):
			sent = append(sent, call)
		case err != nil:
			return err
		}
	}
	if len(sent) == 0 {
		return nil
	}
	results := batcher.SendBatch(ctx, &batch.Batch)
	for _, call := range sent {
		if err := call(&Queries{db: replay{results}}); err != nil {
			results.Close() //nolint:errcheck // It has the same error, or one that came after it.
			if prepared, ok := errors.AsType[pgx.ErrPreprocessingBatch](err); ok {
				name, _, _ := strings.Cut(prepared.SQL(), "\n")
				return fmt.Errorf("%w of the statement %s", err, name) // The first call is not to blame.
			}
			return err
		}
	}
	return results.Close()
}

// errRecorded ends a call whose statement is known.
var errRecorded = errors.New("the statement is not sent yet")

// recorder notes statements and runs none.
type recorder struct{ pgx.Batch }

func (r *recorder) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	r.Queue(sql, args...)
	return pgconn.CommandTag{}, errRecorded
}

func (r *recorder) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	r.Queue(sql, args...)
	return nil, errRecorded
}

func (r *recorder) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	r.Queue(sql, args...)
	return recordedRow{}
}

type recordedRow struct{}

func (recordedRow) Scan(...any) error { return errRecorded }

// replay gives each statement the next answer.
type replay struct{ results pgx.BatchResults }

func (r replay) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return r.results.Exec()
}

func (r replay) Query(context.Context, string, ...any) (pgx.Rows, error) {
	return r.results.Query() //nolint:rowserrcheck // The caller reads them.
}

func (r replay) QueryRow(context.Context, string, ...any) pgx.Row { return r.results.QueryRow() }

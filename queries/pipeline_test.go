package queries_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"daybook/internal/testdb"
	"daybook/queries"
)

// noBatch is a transaction that takes no batches.
type noBatch struct{ tx pgx.Tx }

func (n noBatch) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return n.tx.Exec(ctx, sql, args...)
}

func (n noBatch) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return n.tx.Query(ctx, sql, args...)
}

func (n noBatch) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return n.tx.QueryRow(ctx, sql, args...)
}

// Calls in one round trip return what they return one after the other, and see what those before them wrote.
func TestPipeline(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	task := pgtype.UUID{Bytes: [16]byte{1}, Valid: true}
	for _, batches := range []bool{true, false} {
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := queries.New(tx)
		if !batches {
			q = queries.New(noBatch{tx})
		}
		var listed []queries.DaybookTaskUsageDailyQuarantine
		var days queries.GetClosedDaysRow
		var left int
		err = q.Pipeline(t.Context(),
			func(q *queries.Queries) error {
				return q.QuarantineTask(t.Context(), queries.QuarantineTaskParams{TaskID: task, Error: "reason"})
			},
			func(*queries.Queries) error { return nil }, // has nothing to do
			func(q *queries.Queries) (err error) {
				listed, err = q.ListQuarantined(t.Context(), 10)
				return err
			},
			func(q *queries.Queries) (err error) {
				days, err = q.GetClosedDays(t.Context())
				return err
			},
			func(q *queries.Queries) error { return q.ForgiveTasks(t.Context(), []pgtype.UUID{task}) },
			func(q *queries.Queries) error {
				rows, err := q.ListQuarantined(t.Context(), 10)
				left = len(rows)
				return err
			})
		if err != nil {
			t.Fatal(err)
		}
		if len(listed) != 1 || listed[0].Error != "reason" || left != 0 || !days.ClosedBefore.Valid {
			t.Errorf("batches %t: listed %v, then %d; %v", batches, listed, left, days)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// The first call that fails ends a pipeline, whether Postgres or the call itself says so. The connection can be used again.
func TestPipelineThatFails(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	errOwn := errors.New("own")
	for _, test := range []struct {
		name string
		fail func(*queries.Queries) error
		is   func(error) bool
	}{
		{"Postgres", func(q *queries.Queries) error {
			return q.QuarantineTask(t.Context(), queries.QuarantineTaskParams{Error: "of no task"})
		}, func(err error) bool {
			pgErr, ok := errors.AsType[*pgconn.PgError](err)
			return ok && pgErr.Code == "23502"
		}},
		{"after the answer", func(q *queries.Queries) error {
			_, err := q.ListQuarantined(t.Context(), 10)
			if err == nil {
				err = errOwn
			}
			return err
		}, func(err error) bool { return errors.Is(err, errOwn) }},
		{"before anything is sent", func(*queries.Queries) error { return errOwn }, func(err error) bool { return errors.Is(err, errOwn) }},
	} {
		var made []string
		note := func(name string) func(*queries.Queries) error {
			return func(q *queries.Queries) error {
				_, err := q.GetClosedDays(t.Context())
				if err == nil {
					made = append(made, name)
				}
				return err
			}
		}
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return queries.New(tx).Pipeline(t.Context(), note("before"), test.fail, note("after"))
		})
		if !test.is(err) {
			t.Errorf("%s: %v", test.name, err)
		}
		if slices.Contains(made, "after") {
			t.Errorf("%s: what came after was made", test.name)
		}
	}
	if _, err := queries.New(pool).GetClosedDays(t.Context()); err != nil {
		t.Error(err)
	}
}

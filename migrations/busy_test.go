package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
	"daybook/migrations"
)

// hold runs sql in a transaction that stays open, and returns it and the pid of its connection.
func hold(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) (pgx.Tx, uint32) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Rollback(context.Background()) })
	exec(t, tx, sql, args...)
	return tx, tx.Conn().PgConn().PID()
}

// requireBusy runs do and fails the test unless it gives up in bounded time and names the transaction in its way.
func requireBusy(t *testing.T, pid uint32, do func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := do(ctx)
	if !errors.Is(err, migrations.ErrBusy) {
		t.Fatalf("error %v, want ErrBusy", err)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("pid %d ", pid)) {
		t.Errorf("error %q does not name pid %d", err, pid)
	}
}

// writeEverywhere writes each host table that has triggers, and the rows that triggers are on most often.
func writeEverywhere(t *testing.T, pool *pgxpool.Pool, w ids) {
	t.Helper()
	for _, sql := range []string{
		`UPDATE public.agent SET name = 'x' WHERE id = @ann`,
		`UPDATE public.agent_runtime SET last_seen_at = now() WHERE id = @away`,
		`UPDATE public.agent_task_queue SET priority = 1 WHERE id = @odd`,
		`UPDATE public.issue SET title = 'x' WHERE id = @wish`,
		`INSERT INTO public.task_usage (task_id, provider, model) VALUES (@odd, 'p', 'm')
			ON CONFLICT (task_id, provider, model) DO UPDATE SET input_tokens = task_usage.input_tokens + 1`,
	} {
		exec(t, pool, sql, w)
	}
}

func triggerCount(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return scalar[int](t, pool, `
		SELECT count(*) FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_class c ON c.oid = g.tgrelid
		WHERE p.pronamespace = to_regnamespace('daybook') AND c.relnamespace <> p.pronamespace AND NOT g.tgisinternal`)
}

func TestGivesUpRatherThanQueue(t *testing.T) {
	t.Parallel()
	const (
		writeFirst = `UPDATE public.agent SET name = 'held' WHERE id = @bob`
		writeLast  = `UPDATE public.task_usage SET input_tokens = 5 WHERE task_id = @done`
		read       = `SELECT FROM public.task_usage`
	)
	upOnly := func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := migrations.Up(ctx, pool)
		return err
	}
	for _, test := range []struct {
		name     string
		held     string
		attached bool // before
		do       func(context.Context, *pgxpool.Pool) error
	}{
		{"up, the first table is written", writeFirst, false, upOnly},
		{"up, the last table is written", writeLast, false, upOnly},
		{"attach", writeLast, false, migrations.Attach},
		{"detach, a table is written", writeLast, true, migrations.Detach},
		{"detach, a table is read", read, true, migrations.Detach},
		{"down, a table is read", read, true, migrations.Down},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.NewHost(t)
			w := populate(t, pool)
			if test.attached || test.name == "attach" {
				up(t, pool)
			}
			if test.name == "attach" {
				detach(t, pool)
			}
			before := triggerCount(t, pool)
			tx, pid := hold(t, pool, test.held, w)
			requireBusy(t, pid, func(ctx context.Context) error { return test.do(ctx, pool) })
			if after := triggerCount(t, pool); after != before {
				t.Errorf("%d triggers before, %d after", before, after)
			}
			if test.attached {
				if !scalar[bool](t, pool, `SELECT daybook.attached()`) {
					t.Error("no longer attached")
				}
			}
			writeEverywhere(t, impatient(t, pool), w)
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := test.do(t.Context(), pool); err != nil {
				t.Fatalf("retry: %v", err)
			}
			if after := triggerCount(t, pool); (after == 0) != test.attached {
				t.Errorf("%d triggers after the retry", after)
			}
		})
	}
}

// What the host writes while Attach waits for its locks waits no longer than Attach does.
func TestHostWritesOnceAttachHasGivenUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(context.Context, *pgxpool.Pool) error
	}{
		{"attach", migrations.Attach},
		{"detach", migrations.Detach},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, w := setup(t)
			_, pid := hold(t, pool, `UPDATE public.task_usage SET input_tokens = 5 WHERE task_id = @done`, w)
			over := make(chan struct{})
			var err error
			go func() {
				defer close(over)
				err = test.do(t.Context(), pool)
			}()
			// If this comes too late to see it, the host has not waited at all.
			await(t, pool, over, `SELECT EXISTS (SELECT FROM pg_locks
				WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				  AND relation = 'public.task_usage'::regclass)`)
			writeEverywhere(t, pool, w)
			<-over
			requireBusy(t, pid, func(context.Context) error { return err })
			if !scalar[bool](t, pool, `SELECT daybook.attached()`) {
				t.Error("half attached")
			}
		})
	}
}

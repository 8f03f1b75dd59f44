package migrations_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/testdb"
	"daybook/migrations"
)

func up(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	applied, err := migrations.Up(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func down(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if err := migrations.Down(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

func TestUpTwiceIsNoOp(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	if err := migrations.CheckCurrent(t.Context(), pool); !errors.Is(err, migrations.ErrOutdated) {
		t.Errorf("CheckCurrent before Up: %v", err)
	}
	if len(up(t, pool)) == 0 {
		t.Fatal("the first Up applied nothing")
	}
	if err := migrations.CheckCurrent(t.Context(), pool); err != nil {
		t.Errorf("CheckCurrent after Up: %v", err)
	}
	before := lines(t, pool, fingerprintSQL)
	if applied := up(t, pool); len(applied) != 0 {
		t.Errorf("the second Up applied %q", applied)
	}
	requireSameHost(t, pool, before)
}

func TestDownLeavesTheHostAsItWas(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	w := populate(t, pool)
	exec(t, pool, `GRANT SELECT, INSERT ON public.task_usage TO PUBLIC; GRANT UPDATE (title) ON public.issue TO PUBLIC;
		CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
		CREATE TRIGGER touch BEFORE UPDATE ON public.task_usage FOR EACH ROW EXECUTE FUNCTION public.touch();
		ALTER TABLE public.task_usage DISABLE TRIGGER touch`)
	before := lines(t, pool, fingerprintSQL)
	for range 2 {
		up(t, pool)
		// Something in every kind of table: facts, buckets, a queue, a request, a scope.
		exec(t, pool, `UPDATE public.task_usage SET input_tokens = input_tokens`)
		settle(t, pool)
		exec(t, pool, `UPDATE public.issue SET project_id = NULL WHERE id = @bug`, w)
		exec(t, pool, `UPDATE public.issue SET project_id = @red WHERE id = @bug`, w)
		exec(t, pool, `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`)
		exec(t, pool, `UPDATE public.agent_runtime SET timezone = 'UTC'`)
		// Two jobs that were the same to be done, one after the other.
		exec(t, pool, `INSERT INTO daybook.river_job (state, max_attempts, args, kind, unique_key, finalized_at)
			SELECT 'completed', 1, '{}', 'daybook_drain', 'same', now() FROM generate_series(1, 2)`)
		down(t, pool)
		requireSameHost(t, pool, before)
		if err := migrations.CheckCurrent(t.Context(), pool); !errors.Is(err, migrations.ErrOutdated) {
			t.Errorf("CheckCurrent after Down: %v", err)
		}
	}
	up(t, pool)
	exec(t, pool, `UPDATE public.task_usage SET input_tokens = 1 WHERE task_id = @done`, w)
	requireQueued(t, pool, w, "dirty done")
}

func TestDownWithoutUpIsNoOp(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	populate(t, pool)
	before := lines(t, pool, fingerprintSQL)
	down(t, pool)
	down(t, pool)
	requireSameHost(t, pool, before)
}

// Buckets that were there before a rollup was.
func TestARollupIsMadeOfBucketsThatAreThere(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	up(t, pool)
	populate(t, pool)
	settle(t, pool)
	var ways []string // up
	for _, name := range []string{"0016_narrow_ledger.sql", "0015_create_workspace_usage_by_agent.sql"} {
		migration, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		up, down, found := strings.Cut(string(migration), "-- +goose Down")
		if !found {
			t.Fatalf("%s has no way down", name)
		}
		if len(ways) > 0 { // The comparison needs what 0015 removes.
			testdb.RequireExact(t, pool)
		}
		exec(t, pool, down)
		ways = append(ways, up)
	}
	for _, up := range slices.Backward(ways) {
		exec(t, pool, up)
	}
	testdb.RequireExact(t, pool)
	exec(t, pool, `DELETE FROM public.task_usage`)
	settle(t, pool)
	testdb.RequireExact(t, pool)
}

func TestUpAtTheSameTime(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	var group errgroup.Group
	applied := make([][]string, 3)
	for i := range applied {
		other := testdb.Open(t, pool)
		group.Go(func() (err error) {
			applied[i], err = migrations.Up(t.Context(), other)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(applied...)
	slices.Sort(all)
	if len(all) == 0 || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("applied %q", applied)
	}
	if err := migrations.CheckCurrent(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

// Neither a small pool nor callers that share one make a migration wait for itself.
func TestUpOnASmallPool(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	small := testdb.Open(t, pool, func(c *pgxpool.Config) { c.MaxConns = 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var group errgroup.Group
	for range 3 {
		group.Go(func() error {
			_, err := migrations.Up(ctx, small)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Down(ctx, small); err != nil {
		t.Fatal(err)
	}
}

func TestListNamesEveryMigration(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	names := func() (list []string, applied int) {
		statuses, err := migrations.List(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range statuses {
			list = append(list, s.Name)
			if !s.AppliedAt.IsZero() {
				applied++
			}
		}
		return list, applied
	}
	before, applied := names()
	if len(before) == 0 || applied != 0 || !slices.IsSorted(before) {
		t.Errorf("before Up: %q, %d applied", before, applied)
	}
	up(t, pool)
	after, applied := names()
	if !slices.Equal(before, after) || applied != len(after) {
		t.Errorf("after Up: %q, %d applied; before %q", after, applied, before)
	}
}

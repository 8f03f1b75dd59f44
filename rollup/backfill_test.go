package rollup_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/migrations"
	"daybook/rollup"
)

// A backfill that is stopped in the middle and started again, while a host writes and drains run.
func TestBackfillIsStoppedAndGoesOn(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 30_000, Days: 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	defer stop()
	var reached, total int64
	err := rollup.Backfill(stopped, pool, rollup.BackfillConfig{Progress: func(done, of int64) {
		reached, total = done, of
		if done > 0 {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("stopped backfill: %v", err)
	}
	if reached == 0 || reached >= total || total != 30_000 {
		t.Fatalf("stopped after %d of %d tasks", reached, total)
	}
	first := int64(-1)
	writing := make(chan error, 1)
	go func() {
		writing <- history.Play(context.WithoutCancel(t.Context()), pool, history.Config{Seed: history.Seed(t), Transactions: 50, KeepOthers: true})
	}()
	err = rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{Progress: func(done, of int64) {
		if first < 0 {
			first = done
		}
		reached, total = done, of
	}})
	if err != nil {
		t.Fatal(err)
	}
	if first == 0 || reached != total {
		t.Errorf("the second call went from %d to %d of %d; want it to go on and to finish", first, reached, total)
	}
	if err := <-writing; err != nil {
		t.Fatal(err)
	}
	(&host{t: t, pool: pool}).settle()
	testdb.RequireExact(t, pool)
}

// A zone that changed while the triggers were off is the backfill's to put right, without any worker.
func TestBackfillRebuildsByItself(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01 23:30Z")
	h.settle()
	if err := migrations.Detach(t.Context(), h.pool); err != nil {
		t.Fatal(err)
	}
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Asia/Kolkata'`)
	if err := migrations.Attach(t.Context(), h.pool); err != nil {
		t.Fatal(err)
	}
	if err := rollup.Backfill(t.Context(), h.pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, h.pool)
}

// A list that is lost on the way is not taken for one that was counted.
func TestBackfillDoesNotFinishALostList(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.useMany(h.idsInShard(0, 10), h.runtime)
	lost := false
	err := rollup.Backfill(t.Context(), h.pool, rollup.BackfillConfig{Progress: func(int64, int64) {
		if !lost {
			lost = true
			h.exec(`TRUNCATE daybook.backfill_task`) // As a crash of Postgres does with an unlogged table.
		}
	}})
	if !errors.Is(err, rollup.ErrSuperseded) {
		t.Fatalf("got %v, want ErrSuperseded", err)
	}
	if err := rollup.Backfill(t.Context(), h.pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, h.pool)
}

// Where a policy hides rows from the role of the worker, work fails. It must not take hidden rows for deleted ones.
func TestRowSecurityIsAnError(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01")
	h.settle()
	role := "daybook_worker_" + scalar[string](t, h.pool, `SELECT replace(gen_random_uuid()::text, '-', '')`)
	h.exec(`CREATE ROLE ` + role + ` NOLOGIN`)
	t.Cleanup(func() {
		for _, sql := range []string{`DROP OWNED BY ` + role, `DROP ROLE ` + role} {
			if _, err := h.pool.Exec(context.WithoutCancel(t.Context()), sql); err != nil {
				t.Error(err)
			}
		}
	})
	h.exec(`GRANT USAGE ON SCHEMA public, daybook TO ` + role)
	h.exec(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role)
	h.exec(`GRANT ALL ON ALL TABLES IN SCHEMA daybook TO ` + role)
	h.exec(`ALTER TABLE public.agent_task_queue ENABLE ROW LEVEL SECURITY`)
	pool := testdb.Open(t, h.pool, func(c *pgxpool.Config) {
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SET ROLE `+role)
			return err
		}
	})
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err == nil {
		t.Error("a backfill by a role that sees no task worked")
	}
	h.exec(`UPDATE public.task_usage SET input_tokens = 11`)
	shard := scalar[int16](t, h.pool, `SELECT shard FROM daybook.task_usage_daily_dirty`)
	if _, err := rollup.Drain(t.Context(), pool, []int16{shard}, nil); err == nil {
		t.Error("a drain by a role that sees no task worked")
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

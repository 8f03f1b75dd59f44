package rollup_test

import (
	"context"
	"errors"
	"testing"

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
		writing <- history.Play(context.WithoutCancel(t.Context()), pool, history.Config{Seed: seedOf(t), Transactions: 50, KeepOthers: true})
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

package rollup_test

import (
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/testdb"
	"daybook/queries"
	"daybook/rollup"
)

func TestSmoke(t *testing.T) {
	pool := testdb.New(t)
	start := time.Now()
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 5000}); err != nil {
		t.Fatal(err)
	}
	t.Log("fill", time.Since(start))
	start = time.Now()
	for s := range int16(16) {
		r, err := rollup.Drain(t.Context(), pool, s, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = r
	}
	t.Log("drain", time.Since(start))
	testdb.RequireExact(t, pool)
	t.Log("compare", time.Since(start))
	_ = queries.New(pool)
	start = time.Now()
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{Progress: func(d, n int64) { t.Log(d, n) }}); err != nil {
		t.Fatal(err)
	}
	t.Log("backfill", time.Since(start))
	testdb.RequireExact(t, pool)
}

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/migrations"
	"daybook/rollup"
)

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		panic(err)
	}
	must(demo.CreateHost(ctx, pool))
	t := time.Now()
	if ok, _ := demo.Filled(ctx, pool); !ok {
		must(demo.Fill(ctx, pool, demo.Size{Tasks: 600000, Runtimes: 40, Agents: 80}))
		fmt.Println("fill", time.Since(t))
	}
	if err := migrations.Down(ctx, pool); err != nil { _, e := pool.Exec(ctx, "drop schema daybook cascade"); must(e) }
	_, err = migrations.Up(ctx, pool)
	must(err)
	var n int
	must(pool.QueryRow(ctx, "select count(*) from task_usage").Scan(&n))
	t = time.Now()
	b, _ := os.ReadFile("/tmp/bb/ctas.sql")
	_, err = pool.Exec(ctx, string(b))
	must(err)
	ctas := time.Since(t)
	fmt.Println("ctas", n, ctas)
	t = time.Now()
	last := t
	must(rollup.Backfill(ctx, pool, rollup.BackfillConfig{Progress: func(d, n int64) {
		if time.Since(last) > time.Second {
			last = time.Now()
			fmt.Println(d, n)
		}
	}}))
	fmt.Println("backfill", time.Since(t), time.Since(t).Seconds()/ctas.Seconds())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

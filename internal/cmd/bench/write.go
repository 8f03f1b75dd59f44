package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/migrations"
)

// writeLength is how long the host writes in each half of a pair.
const writeLength = 2 * time.Second

// write compares the rate of single-row upserts with the triggers and without. Each ratio is of two neighbours in time, since the
// machine's speed drifts; the median of them counts. What was written without triggers is not counted afterwards.
func (b *bench) write(ctx context.Context) (err error) {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	bench, err := findPgbench(ctx, h.Host)
	if err != nil {
		return err
	}
	ids, err := h.prime(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_, dropped := h.Pool.Exec(context.WithoutCancel(ctx), statement("drop_bench_task"))
		err = errors.Join(err, dropped)
	}()
	if err := h.numberTasks(ctx, ids); err != nil {
		return err
	}
	s := upsertScript(len(ids))
	rate := func() (float64, error) { return bench.run(ctx, s, writers, writeLength) }
	if _, err := rate(); err != nil { // Warms up.
		return err
	}
	var with, without, ratios []float64
	for p := range b.Pairs {
		rates := make(map[bool]float64)
		for _, on := range []bool{p%2 == 0, p%2 == 1} {
			change := migrations.Detach
			if on {
				change = migrations.Attach
			}
			if err := change(ctx, h.Pool); err != nil {
				return err
			}
			if rates[on], err = rate(); err != nil {
				return err
			}
			if err := drain(ctx, h); err != nil {
				return err
			}
		}
		with, without, ratios = append(with, rates[true]), append(without, rates[false]), append(ratios, rates[true]/rates[false])
	}
	if err := migrations.Attach(ctx, h.Pool); err != nil {
		return err
	}
	b.add("write", result{
		work:     fmt.Sprintf("upserts of single rows, %d connections", writers),
		measured: aSecond.format(median(with)), against: aSecond.format(median(without)) + " without triggers",
		value: median(ratios), wanted: atLeast(0.85, times), label: "host's writes, beside no triggers",
	})
	return settle(ctx, h.Pool)
}

// numberTasks makes the table that upsertScript takes tasks from.
func (h *host) numberTasks(ctx context.Context, ids []pgtype.UUID) error {
	if _, err := h.Pool.Exec(ctx, statement("create_bench_task")); err != nil {
		return fmt.Errorf("number tasks: %w", err)
	}
	if _, err := h.Pool.Exec(ctx, statement("fill_bench_task"), ids); err != nil {
		return fmt.Errorf("number tasks: %w", err)
	}
	return settle(ctx, h.Pool)
}

// upsertScript is the statement of an upserter for pgbench, with one of so many numbered tasks. To look its id up is a part of the
// statement, for it costs less than another round trip.
func upsertScript(tasks int) script {
	upsert := strings.NewReplacer("$1", "(SELECT id FROM public.bench_task WHERE n = :n)", "$2", ":tokens").Replace(statement("upsert_usage"))
	return script{sql: fmt.Sprintf("\\set n random(1, %d)\n\\set tokens random(1, 1000000)\n%s;\n", tasks, strings.TrimSpace(upsert))}
}

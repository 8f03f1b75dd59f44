package main

import (
	"context"
	"fmt"
	"time"

	"daybook/migrations"
)

// writeLength is how long the host writes in each half of a pair.
const writeLength = 2 * time.Second

// write compares the rate of single-row upserts with the triggers and without. Each ratio is of two neighbours in time, since the
// machine's speed drifts; the median of them counts. What was written without triggers is not counted afterwards.
func (b *bench) write(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	ids, err := h.prime(ctx)
	if err != nil {
		return err
	}
	rate := func() (float64, error) {
		u := upserter{host: h, tasks: ids}
		took, err := timed(func() error { return u.run(ctx, writeLength) })
		return float64(u.written.Load()) / took.Seconds(), err
	}
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

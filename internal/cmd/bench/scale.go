package main

import (
	"context"
	"fmt"
	"time"
)

// scaleTasks is how many tasks change in each case: so many at most are of one shard of the middle host.
const scaleTasks = 40_000

// scale measures how fast entries of some shards are drained by some workers.
func (b *bench) scale(ctx context.Context) error {
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	if err := settle(ctx, h.Pool); err != nil {
		return err
	}
	for _, shards := range []int{1, 4, 16} {
		for _, workers := range []int{1, 2, 4} {
			rate, entries, err := b.drainShards(ctx, h, shards, workers)
			if err != nil {
				return err
			}
			b.add("scale", result{
				work:     fmt.Sprintf("drain %s entries of %s by %s", grouped(int(entries)), counted(shards, "shard"), counted(workers, "worker")),
				measured: fmt.Sprintf("%s entries a second", grouped(int(rate))),
			})
		}
	}
	return settle(ctx, h.Pool)
}

// drainShards changes tasks of the first shards, and returns how many entries a second so many workers drain, from the first to the last.
func (b *bench) drainShards(ctx context.Context, h *host, shards, workers int) (rate float64, entries int64, err error) {
	if _, err := h.Pool.Exec(ctx, statement("change_shards"), shards, scaleTasks); err != nil {
		return 0, 0, fmt.Errorf("change tasks of %d shards: %w", shards, err)
	}
	var tasks int64
	if err := h.Pool.QueryRow(ctx, statement("count_queue")).Scan(&entries, &tasks); err != nil {
		return 0, 0, fmt.Errorf("count the queue: %w", err)
	}
	start := time.Now()
	f, err := b.startFleet(ctx, h, workers)
	if err != nil {
		return 0, 0, err
	}
	defer f.stop()
	if err := f.awaitDrained(ctx, entries); err != nil {
		return 0, 0, err
	}
	return float64(entries) / time.Since(start).Seconds(), entries, nil
}

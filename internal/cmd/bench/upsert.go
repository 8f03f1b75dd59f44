package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sync/errgroup"
)

const (
	// writers is the number of connections that a host writes with.
	writers = 4
	// writtenTasks is how many tasks the usage that it writes is of.
	writtenTasks = 20_000
)

// upserter is a host that writes single rows of usage, on several connections.
type upserter struct {
	host    *host
	tasks   []pgtype.UUID
	rate    int // rows a second, all connections together; 0 for without pause
	written atomic.Int64
}

// prime returns tasks that have a row of the usage that an upserter writes. So it updates, and a rate means the same from the beginning to the end.
func (h *host) prime(ctx context.Context) ([]pgtype.UUID, error) {
	ids, err := h.sampleTasks(ctx, writtenTasks)
	if err != nil {
		return nil, err
	}
	if _, err := h.Pool.Exec(ctx, statement("prime_usage"), ids); err != nil {
		return nil, fmt.Errorf("prime usage: %w", err)
	}
	return ids, drain(ctx, h)
}

// run writes until the context is done, or the time has come. Each row of a rate has its moment; a writer that falls behind catches up.
func (u *upserter) run(ctx context.Context, length time.Duration) error {
	sql := statement("upsert_usage")
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		group.Go(func() error {
			conn, err := u.host.Pool.Acquire(ctx)
			if err != nil {
				return fmt.Errorf("upsert usage: %w", err)
			}
			defer conn.Release()
			for i := w; ; i += writers {
				at := time.Since(start)
				if u.rate > 0 {
					at = time.Duration(i) * time.Second / time.Duration(u.rate)
				}
				if at > length {
					return nil
				}
				select {
				case <-time.After(time.Until(start.Add(at))):
				case <-ctx.Done():
					return ctx.Err()
				}
				if _, err := conn.Exec(ctx, sql, u.tasks[i%len(u.tasks)], i); err != nil {
					return fmt.Errorf("upsert usage: %w", err)
				}
				u.written.Add(1)
			}
		})
	}
	return group.Wait()
}

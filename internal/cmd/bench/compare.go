package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/rollup"
)

// verify compares a verification of everything with the GROUP BYs that find the same numbers.
func (b *bench) verify(ctx context.Context) error {
	const rounds = 3
	h, err := b.host(ctx, middle)
	if err != nil {
		return err
	}
	var bare, took []time.Duration
	for range rounds {
		d, err := timed(func() error {
			_, err := h.Pool.Exec(ctx, statement("group_all"))
			return err
		})
		if err != nil {
			return fmt.Errorf("group the source: %w", err)
		}
		bare = append(bare, d)
		d, err = timed(func() error {
			r, err := rollup.Verify(ctx, h.Pool, rollup.Verification{})
			if err == nil && len(r.Differences) > 0 {
				err = fmt.Errorf("the rollups differ: %v", r.Differences)
			}
			return err
		})
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	b.add("verify", result{
		work:     fmt.Sprintf("verify %s usage rows", grouped(h.rows)),
		measured: duration(median(took).Seconds()),
		against:  duration(median(bare).Seconds()) + " `GROUP BY`s on the host's tables that give the same numbers",
		value:    median(took).Seconds() / median(bare).Seconds(), wanted: atMost(2, times), label: "verify, beside GROUP BY",
	})
	return nil
}

// rebuild compares the rebuild of the large host's largest runtime, in several zones, with the bare GROUP BYs on a plain table of its facts alone.
func (b *bench) rebuild(ctx context.Context) error {
	h, err := b.host(ctx, large)
	if err != nil {
		return err
	}
	var runtime pgtype.UUID
	var rows int
	if err := h.Pool.QueryRow(ctx, statement("largest_runtime")).Scan(&runtime, &rows); err != nil {
		return fmt.Errorf("find the largest runtime: %w", err)
	}
	say("rebuild of a runtime with %d usage rows", rows)
	var bare, took []time.Duration
	_, err = withPlain(ctx, h.Pool, func() error {
		if err := plain(ctx, h.Pool, statement("plain_of_largest")); err != nil {
			return err
		}
		for _, zone := range []string{"Asia/Kolkata", "America/New_York", "UTC"} {
			d, err := timed(func() error {
				_, err := h.Pool.Exec(ctx, statement("group_runtime"), zone)
				return err
			})
			if err != nil {
				return fmt.Errorf("group the facts: %w", err)
			}
			bare = append(bare, d)
			if _, err := h.Pool.Exec(ctx, statement("set_zone"), runtime, zone); err != nil {
				return fmt.Errorf("set the zone: %w", err)
			}
			d, err = timed(func() error {
				r, err := rollup.Rebuild(ctx, h.Pool, runtime)
				if err == nil && r.Timezone != zone {
					err = fmt.Errorf("rebuilt in %q, want %q", r.Timezone, zone)
				}
				return err
			})
			if err != nil {
				return err
			}
			took = append(took, d)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.add("rebuild", result{
		work:     fmt.Sprintf("rebuild a runtime of %s usage rows, of %s", grouped(rows), grouped(h.rows)),
		measured: duration(median(took).Seconds()), against: duration(median(bare).Seconds()) + " the bare `GROUP BY`s on its facts",
		value: median(bare).Seconds() / median(took).Seconds(), wanted: atLeast(0.6, percent), label: "rebuild, beside GROUP BY",
	})
	return settle(ctx, h.Pool)
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"daybook/migrations"
	"daybook/queries"
	"daybook/rollup"
)

type backfillCmd struct {
	IfNeeded bool `name:"if-needed" help:"Do nothing if a backfill has been completed since the triggers were put on."`
}

// Run counts everything and shows how far it is: as a bar on a terminal, else as a line every few seconds.
func (c *backfillCmd) Run(e *env) error {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	if c.IfNeeded {
		coverage, err := queries.New(e.pool).GetCoverage(e.ctx)
		if err != nil {
			return fmt.Errorf("get coverage: %w", err)
		}
		if coverage.Complete {
			fmt.Fprintln(e.stdout, "nothing to do: everything is counted")
			return nil
		}
	}
	show := e.lines()
	if term.IsTerminal(int(e.stdout.Fd())) {
		show = e.bar()
	}
	start := time.Now()
	var counted int64
	var first int64 = -1
	err := rollup.Backfill(e.ctx, e.pool, rollup.BackfillConfig{
		Progress: func(done, total int64) {
			if first < 0 {
				first = done
			}
			counted = done
			show(done, total)
		},
		RejectedZone: func(z rollup.RejectedZone) {
			e.logger.Warn("time zone unknown to Postgres; counting in UTC",
				slog.String("runtime_id", z.RuntimeID.String()), slog.String("timezone", z.Timezone))
		},
	})
	if errors.Is(err, rollup.ErrNotAttached) {
		return fmt.Errorf("%w, so changes made meanwhile would be lost; run: worker attach", err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "backfill complete: %d tasks in %s\n", counted-first, time.Since(start).Round(time.Millisecond))
	return nil
}

// lines reports every few seconds, for logs.
func (e *env) lines() func(done, total int64) {
	const every = 5 * time.Second
	start := time.Now()
	var last time.Time
	var first int64
	return func(done, total int64) {
		now := time.Now()
		if last.IsZero() {
			first = done
		} else if now.Sub(last) < every && done < total {
			return
		}
		last = now
		line := fmt.Sprintf("backfill: %d of %d tasks", done, total)
		if elapsed := now.Sub(start); done > first && elapsed > 0 {
			rate := float64(done-first) / elapsed.Seconds()
			left := time.Duration(float64(total-done) / rate * float64(time.Second))
			line += fmt.Sprintf(", %.0f a second, %s left", rate, left.Round(time.Second))
		}
		fmt.Fprintln(e.stdout, line)
	}
}

func (e *env) bar() func(done, total int64) {
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
		if bar == nil {
			bar = progressbar.NewOptions64(total,
				progressbar.OptionSetWriter(e.stdout),
				progressbar.OptionSetDescription("backfill"),
				progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("tasks"),
				progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionUseANSICodes(true),
				progressbar.OptionOnCompletion(func() { fmt.Fprintln(e.stdout) }))
		}
		bar.Set64(done) //nolint:errcheck // Only a broken terminal makes it fail.
	}
}

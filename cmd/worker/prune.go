package main

import (
	"fmt"
	"time"

	"daybook/migrations"
	"daybook/rollup"
)

type pruneCmd struct {
	Before string `required:"" placeholder:"YYYY-MM-DD" help:"The first day that stays open. It must be at least 374 days ago."`
}

// Run closes days and removes their facts.
func (c *pruneCmd) Run(e *env) error {
	before, err := time.Parse(time.DateOnly, c.Before)
	if err != nil {
		return usageError{fmt.Errorf("--before: %q is not a date: give one such as 2025-01-31", c.Before)}
	}
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	said := time.Now()
	result, err := rollup.Prune(e.ctx, e.pool, before, func(removed int64) {
		if time.Since(said) >= progressEvery {
			said = time.Now()
			fmt.Fprintf(e.stdout, "prune: %d facts removed\n", removed)
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "days before %s are closed; %d facts removed\n", result.ClosedBefore.Format(time.DateOnly), result.Facts)
	return nil
}

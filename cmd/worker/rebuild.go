package main

import (
	"errors"
	"fmt"

	"daybook/migrations"
	"daybook/queries"
)

type rebuildCmd struct {
	Runtimes []string `arg:"" optional:"" name:"runtime" help:"Ids of the runtimes (UUIDs)."`
	All      bool     `help:"Every runtime that is counted."`
}

// Run asks for rebuilds. It checks every id before it asks for any.
func (c *rebuildCmd) Run(e *env) error {
	if c.All == (len(c.Runtimes) > 0) {
		return errors.New("name the runtimes to rebuild, or --all")
	}
	ids, err := parseIDs("runtime", c.Runtimes)
	if err != nil {
		return err
	}
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	q := queries.New(e.pool)
	if c.All {
		n, err := q.RequestAllRebuilds(e.ctx)
		if err != nil {
			return fmt.Errorf("request rebuilds: %w", err)
		}
		fmt.Fprintf(e.stdout, "asked for a rebuild of %d runtimes\n", n)
		return nil
	}
	for _, id := range ids {
		n, err := q.RequestRebuild(e.ctx, id)
		if err != nil {
			return fmt.Errorf("request rebuild: %w", err)
		}
		if n == 0 {
			return fmt.Errorf("there is no runtime %s", id)
		}
		fmt.Fprintf(e.stdout, "asked for a rebuild of runtime %s\n", id)
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"slices"

	"daybook/migrations"
	"daybook/queries"
)

type requeueCmd struct {
	Tasks []string `arg:"" optional:"" name:"task" help:"Ids of the tasks (UUIDs)."`
	All   bool     `help:"Every task in quarantine."`
}

// Run puts tasks from the quarantine back into the queue. Those that still cannot be counted come back to the quarantine.
func (c *requeueCmd) Run(e *env) error {
	if c.All == (len(c.Tasks) > 0) {
		return errors.New("name the tasks to try again, or --all; worker status lists them")
	}
	ids, err := parseIDs("task", c.Tasks)
	if err != nil {
		return err
	}
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	requeued, err := queries.New(e.pool).RequeueQuarantined(e.ctx, ids)
	if err != nil {
		return fmt.Errorf("requeue: %w", err)
	}
	fmt.Fprintf(e.stdout, "put %d tasks back into the queue\n", len(requeued))
	for _, id := range ids {
		if !slices.Contains(requeued, id) {
			return fmt.Errorf("task %s is not in quarantine; worker status lists those that are", id)
		}
	}
	return nil
}

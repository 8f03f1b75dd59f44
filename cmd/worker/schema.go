package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"daybook/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Create the schema or bring it up to date, and put the triggers on. A no-op when there is nothing to do."`
	Down   migrateDownCmd   `cmd:"" help:"Remove the schema with all rollups, and the triggers. The host stays as it was."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations and when they were applied."`
	Roles  migrateRolesCmd  `cmd:"" help:"Print the SQL of migrate up --roles, for an administrator to run."`
}

type migrateUpCmd struct {
	Roles bool `help:"Also create roles with the least rights for the owner, workers, the api, its changes and metrics, and grant them what is new. Needs the rights to create roles and of the owner of the host's tables."`
}

// Run applies what is not applied.
func (c migrateUpCmd) Run(e *env) error {
	applied, err := migrations.Up(e.ctx, e.pool)
	for _, name := range applied {
		fmt.Fprintln(e.stdout, "applied", name)
	}
	if err != nil {
		return err
	}
	if c.Roles {
		if err := createRoles(e); err != nil {
			return err
		}
	}
	if len(applied) == 0 {
		fmt.Fprintln(e.stdout, "up to date")
		return nil
	}
	fmt.Fprintln(e.stdout, "Up to date. What the host had before is counted by: worker backfill")
	return nil
}

// createRoles makes the roles, and says what is left to grant.
func createRoles(e *env) error {
	result, err := migrations.CreateRoles(e.ctx, e.pool)
	for _, warning := range result.Warnings {
		fmt.Fprintln(e.stderr, "warning:", warning)
	}
	if err != nil {
		return fmt.Errorf("%w\nAn administrator can do it: worker migrate roles | psql", err)
	}
	var required, optional strings.Builder
	for _, grant := range result.Missing {
		if grant.Optional {
			fmt.Fprintf(&optional, "\n%s", grant.Statement)
		} else {
			fmt.Fprintf(&required, "\n%s", grant.Statement)
		}
	}
	if required.Len() > 0 {
		return fmt.Errorf("the roles are made, and do not have what they need yet. An administrator should run:%s%s", &required, &optional)
	}
	fmt.Fprintln(e.stdout, "roles daybook_owner, daybook_worker, daybook_api, daybook_api_write and daybook_metrics have what they need")
	if optional.Len() > 0 {
		fmt.Fprintf(e.stdout, "An administrator may run, too:%s\n", &optional)
	}
	return nil
}

type migrateDownCmd struct{}

// Run removes everything.
func (migrateDownCmd) Run(e *env) error {
	if err := migrations.Down(e.ctx, e.pool); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "removed")
	return nil
}

type migrateStatusCmd struct{}

// Run lists the migrations; it fails when one is not applied.
func (migrateStatusCmd) Run(e *env) error {
	list, err := migrations.List(e.ctx, e.pool)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, m := range list {
		applied := "not applied"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\n", m.Name, applied)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	return migrations.CheckCurrent(e.ctx, e.pool)
}

type migrateRolesCmd struct{}

// Run prints the SQL.
func (migrateRolesCmd) Run(e *env) error {
	_, err := fmt.Fprint(e.stdout, migrations.RolesSQL())
	return err
}

type attachCmd struct{}

// Run puts the triggers on.
func (attachCmd) Run(e *env) error {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	if err := migrations.Attach(e.ctx, e.pool); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "Triggers are on. What changed while they were off is counted by: worker backfill")
	return nil
}

type detachCmd struct{}

// Run takes the triggers off.
func (detachCmd) Run(e *env) error {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	if err := migrations.Detach(e.ctx, e.pool); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "Triggers are off: changes are not counted until worker attach and worker backfill.")
	return nil
}

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/term"

	"daybook/migrations"
	"daybook/rollup"
)

// errDifferent makes the command exit with 1, errCannotTell with 2.
var (
	errDifferent  = errors.New("the rollups differ from the source; run worker verify --repair")
	errCannotTell = errors.New("there is no telling whether the rollups are right")
	// errQuarantined is part of the latter.
	errQuarantined = errors.New("tasks that differ are in quarantine; see worker status")
)

// progressEvery is the time between two lines about how far a command is.
const progressEvery = 5 * time.Second

type verifyCmd struct {
	Runtimes   []string      `name:"runtime" placeholder:"UUID" help:"Only this runtime. May be given more than once."`
	Workspaces []string      `name:"workspace" placeholder:"UUID" help:"Only this workspace with its runtimes. May be given more than once."`
	Sample     time.Duration `placeholder:"DURATION" help:"Only what was not verified for longest, for about this long. Call after call goes round everything."`
	Repair     bool          `help:"Count again what differs, and verify again."`
}

// Run compares everything, or what is named, and prints each difference.
func (c *verifyCmd) Run(e *env) error {
	runtimes, err := parseIDs("runtime", c.Runtimes)
	if err != nil {
		return err
	}
	workspaces, err := parseIDs("workspace", c.Workspaces)
	if err != nil {
		return err
	}
	if c.Sample < 0 || (c.Sample > 0 && len(runtimes)+len(workspaces) > 0) {
		return usageError{errors.New("--sample takes a time such as 30s, and no --runtime and no --workspace beside it")}
	}
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return fmt.Errorf("%w: %w", errCannotTell, err)
	}
	start := time.Now()
	tell := func(d rollup.Difference) {
		fmt.Fprintf(e.stdout, "%s: expected %s, found %s\n", d.Rollup, orNothing(d.Expected), orNothing(d.Found))
	}
	v := rollup.Verification{Runtimes: runtimes, Workspaces: workspaces, Progress: e.verifyProgress(), Difference: tell}
	var result rollup.RepairResult
	switch {
	case c.Sample > 0:
		// Everything is due, the longest unverified first. A sample is never empty.
		begun := false
		result, err = rollup.VerifySample(e.ctx, e.pool, rollup.Sample{
			Period: time.Millisecond, Every: time.Millisecond, Difference: tell, LookOnly: !c.Repair,
			Enough: func() bool {
				enough := begun && time.Since(start) >= c.Sample
				begun = true
				return enough
			},
		})
	case c.Repair:
		result, err = rollup.VerifyAndRepair(e.ctx, e.pool, v)
	default:
		result.Left, err = rollup.Verify(e.ctx, e.pool, v)
	}
	if result.Tasks+result.Runtimes+result.Workspaces > 0 {
		fmt.Fprintf(e.stdout, "counted %d tasks again, made the buckets of %d runtimes and %d workspaces again\n",
			result.Tasks, result.Runtimes, result.Workspaces)
	}
	if err == nil && result.Quarantined > 0 {
		fmt.Fprintf(e.stdout, "%d of them cannot be counted as they are and went to quarantine\n", result.Quarantined)
		err = errQuarantined
	}
	return e.sayVerified(start, result.Left, err)
}

// sayVerified prints what the last verification found.
func (e *env) sayVerified(start time.Time, result rollup.VerifyResult, err error) error {
	if err != nil {
		if e.ctx.Err() != nil {
			return err // Stopped.
		}
		return fmt.Errorf("%w: %w", errCannotTell, err)
	}
	if result.Quarantined > 0 {
		fmt.Fprintf(e.stdout, "left out: %d tasks in quarantine\n", result.Quarantined)
	}
	if result.Waiting > 0 {
		fmt.Fprintf(e.stdout, "left out: tasks of %d changes that wait to be counted\n", result.Waiting)
	}
	for _, table := range slices.Sorted(maps.Keys(result.Differences)) {
		fmt.Fprintf(e.stdout, "%s: %d differences\n", table, result.Differences[table])
	}
	if len(result.Differences) > 0 {
		return errDifferent
	}
	fmt.Fprintf(e.stdout, "no differences: %d runtimes in %s\n", result.Runtimes, time.Since(start).Round(time.Millisecond))
	return nil
}

// verifyProgress says how far a verification is, every few seconds or, on a terminal, all the time on one line.
func (e *env) verifyProgress() func(done, total int) {
	last := time.Now()
	if term.IsTerminal(int(e.stdout.Fd())) {
		return func(done, total int) {
			fmt.Fprintf(e.stdout, "\rverify: %d of %d runtimes", done, total)
			if done == total {
				fmt.Fprintln(e.stdout)
			}
		}
	}
	return func(done, total int) {
		if time.Since(last) >= progressEvery {
			last = time.Now()
			fmt.Fprintf(e.stdout, "verify: %d of %d runtimes\n", done, total)
		}
	}
}

func orNothing(row []byte) string {
	if row == nil {
		return "nothing"
	}
	return string(row)
}

// usageError is an error in arguments that only the command finds. The worker then exits with 2.
type usageError struct{ error }

// parseIDs takes the values of a flag that names runtimes or workspaces.
func parseIDs(what string, values []string) ([]pgtype.UUID, error) {
	ids := make([]pgtype.UUID, len(values))
	for i, s := range values {
		if err := ids[i].Scan(s); err != nil {
			return nil, usageError{fmt.Errorf("%q is not a %s id: give a UUID such as 0190163d-8694-739b-aea5-966c26f8ad91", s, what)}
		}
	}
	return ids, nil
}

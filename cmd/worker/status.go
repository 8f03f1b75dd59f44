package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"daybook/migrations"
	"daybook/queries"
)

// maxCounted bounds how long status looks at a queue that has grown large.
const maxCounted = 1_000_000

// maxListed bounds the tasks in quarantine that are listed.
const maxListed = 20

const timeLayout = "2006-01-02 15:04:05 UTC"

type statusCmd struct{}

// Run prints what an operator asks first.
func (statusCmd) Run(e *env) error {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return err
	}
	q := queries.New(e.pool)
	lag, err := q.GetLag(e.ctx)
	if err != nil {
		return fmt.Errorf("get lag: %w", err)
	}
	status, err := q.GetStatus(e.ctx, maxCounted)
	if err != nil {
		return fmt.Errorf("get status: %w", err)
	}
	coverage, err := q.GetCoverage(e.ctx)
	if err != nil {
		return fmt.Errorf("get coverage: %w", err)
	}
	verified, err := q.GetVerified(e.ctx)
	if err != nil {
		return fmt.Errorf("get verified: %w", err)
	}
	drift, err := q.ListDrift(e.ctx)
	if err != nil {
		return fmt.Errorf("list drift: %w", err)
	}
	quarantined, err := q.ListQuarantined(e.ctx, maxListed)
	if err != nil {
		return fmt.Errorf("list quarantined tasks: %w", err)
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "lag\t%.1f s\n", lag.Seconds)
	fmt.Fprintf(table, "dirty entries\t%s\n", atMost(status.DirtyEntries))
	fmt.Fprintf(table, "rebuilds pending\t%d (oldest %.1f s)\n", status.Rebuilds, status.OldestRebuildSeconds)
	fmt.Fprintf(table, "quarantined tasks\t%d\n", status.Quarantined)
	fmt.Fprintf(table, "zones unknown to Postgres\t%d (counted in UTC)\n", status.RejectedZones)
	fmt.Fprintf(table, "triggers\t%s\n", triggers(coverage))
	fmt.Fprintf(table, "backfill\t%s\n", backfill(coverage))
	fmt.Fprintf(table, "verified\t%s\n", verification(verified, drift))
	if coverage.ClosedBefore.InfinityModifier == pgtype.Finite {
		fmt.Fprintf(table, "closed days\tthose before %s; %d changes refused\n", coverage.ClosedBefore.Time.Format(time.DateOnly), status.RefusedChanges)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(quarantined) > 0 {
		fmt.Fprintln(e.stdout, "\nThese tasks cannot be counted as they are. Put them right, or run worker requeue to try them again.")
	}
	for _, t := range quarantined {
		fmt.Fprintf(e.stdout, "%s  %s  %s\n", t.TaskID, t.QuarantinedAt.Time.UTC().Format(timeLayout), t.Error)
	}
	if more := status.Quarantined - int64(len(quarantined)); more > 0 {
		fmt.Fprintf(e.stdout, "and %d more\n", more)
	}
	return nil
}

func atMost(n int64) string {
	if n >= maxCounted {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

func triggers(c queries.GetCoverageRow) string {
	if c.Attached {
		return "on since " + c.AttachedAt.Time.UTC().Format(timeLayout)
	}
	return "OFF: changes are not counted; run worker attach, then worker backfill"
}

func backfill(c queries.GetCoverageRow) string {
	switch {
	case c.Complete:
		return "complete since " + c.BackfillFinishedAt.Time.UTC().Format(timeLayout)
	case c.Attached && c.ListedSinceAttached:
		return fmt.Sprintf("UNFINISHED: %d of %d tasks; run worker backfill", c.TasksDone, c.BackfillTasks)
	default:
		return "NEEDED: what the host had before the triggers were on is not counted; run worker backfill"
	}
}

func verification(v queries.GetVerifiedRow, drift []queries.ListDriftRow) string {
	said := fmt.Sprintf("%d runtimes, not everything yet", v.Runtimes)
	if v.Complete {
		said = fmt.Sprintf("everything in the last %s", (time.Duration(v.OldestSeconds) * time.Second).Round(time.Second))
	}
	if len(drift) == 0 {
		return said + "; no differences"
	}
	for _, d := range drift {
		said += fmt.Sprintf("; %d DIFFERENCES in %s", d.Differences, d.Rollup)
	}
	return said + "; run worker verify --repair"
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/term"

	"daybook/internal/state"
	"daybook/migrations"
	"daybook/queries"
)

const (
	// maxCounted bounds how long status looks at a queue that has grown large.
	maxCounted = 1_000_000
	// maxListed bounds the tasks in quarantine and the workers that are listed.
	maxListed = 20
	// lookTimeout bounds one look of --watch.
	lookTimeout = 10 * time.Second

	timeLayout = "2006-01-02 15:04:05 UTC"
)

type statusCmd struct {
	JSON     bool          `name:"json" help:"Print JSON, one object in a line."`
	Watch    bool          `help:"Print again and again, until stopped."`
	Interval time.Duration `default:"2s" help:"Time between two looks with --watch."`
}

// Validate is called by kong.
func (c *statusCmd) Validate() error {
	if c.Interval < 100*time.Millisecond {
		return fmt.Errorf("--interval must be 100ms or more, not %s", c.Interval)
	}
	return nil
}

// Run prints what an operator asks first.
func (c *statusCmd) Run(e *env) error {
	if !c.Watch {
		return c.print(e, e.stdout)
	}
	ticker := time.NewTicker(c.Interval)
	defer ticker.Stop()
	for {
		var screen strings.Builder
		if err := c.look(e, &screen); err != nil && e.ctx.Err() == nil {
			// It may be back at the next look. Scripts read nothing but JSON.
			to := io.Writer(&screen)
			if c.JSON {
				to = e.stderr
			}
			fmt.Fprintf(to, "worker: %v\n", err)
		}
		if term.IsTerminal(int(e.stdout.Fd())) && !c.JSON {
			fmt.Fprint(e.stdout, "\x1b[H\x1b[2J") // To the corner, and clear.
		}
		fmt.Fprint(e.stdout, screen.String())
		select {
		case <-e.ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look prints within lookTimeout, so that a database that does not answer is no reason to stand still.
func (c *statusCmd) look(e *env, to io.Writer) error {
	ctx, cancel := context.WithTimeout(e.ctx, lookTimeout)
	defer cancel()
	bounded := *e
	bounded.ctx = ctx
	return c.print(&bounded, to)
}

func (c *statusCmd) print(e *env, to io.Writer) error {
	r, err := readReport(e)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(to).Encode(r)
	}
	return r.write(to)
}

// report is what status shows. Times are UTC, ages in seconds by the database's clock. What is not known is null.
type report struct {
	LagSeconds         *float64         `json:"lag_seconds"`
	DirtyEntries       int64            `json:"dirty_entries"`
	EntriesOfShards    map[int16]int64  `json:"dirty_entries_by_shard"`
	Rebuilds           rebuildReport    `json:"rebuilds"`
	Quarantine         quarantineReport `json:"quarantine"`
	ZonesUnknown       int64            `json:"zones_unknown"`
	Triggers           triggersReport   `json:"triggers"`
	Backfill           backfillReport   `json:"backfill"`
	Verified           verifiedReport   `json:"verified"`
	ClosedBefore       *string          `json:"closed_before"`
	RefusedChanges     int64            `json:"refused_changes"`
	WorkersAlive       int64            `json:"workers_alive"`
	Workers            []workerReport   `json:"workers"`
	Queues             []queueReport    `json:"river_jobs"`
	CleanupHeldSeconds *float64         `json:"cleanup_held_seconds"`
	CleanupHeld        *cleanupReport   `json:"cleanup_held"`
	Problems           []problem        `json:"problems"`

	// refusedLately tells of a change that was refused in the last week.
	refusedLately bool
	// cleanupRemedy is the SQL that shows who keeps Postgres from cleaning up, where that is not known.
	cleanupRemedy string
}

// cleanupReport says whose the oldest transaction is; PID is 0 and Name empty without one. Transactions have begun since the oldest that Holder,
// who may be another one, keeps Postgres from cleaning up behind.
type cleanupReport struct {
	PID          int32  `json:"pid"`
	Name         string `json:"application_name"`
	Transactions int64  `json:"transactions"`
	Holder       string `json:"transactions_held_by"`
}

type rebuildReport struct {
	Pending       int64   `json:"pending"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

type quarantineReport struct {
	Tasks  int64             `json:"tasks"`
	Listed []quarantinedTask `json:"listed"`
}

type quarantinedTask struct {
	TaskID string    `json:"task_id"`
	Error  string    `json:"error"`
	Since  time.Time `json:"since"`
}

type triggersReport struct {
	On    bool       `json:"on"`
	Since *time.Time `json:"since"`
}

type backfillReport struct {
	Complete  bool       `json:"complete"`
	Since     *time.Time `json:"since"`
	Begun     bool       `json:"begun"`
	TasksDone int64      `json:"tasks_done"`
	Tasks     int64      `json:"tasks"`
}

type verifiedReport struct {
	Runtimes        int64            `json:"runtimes"`
	LastPassSeconds *float64         `json:"last_pass_seconds"`
	PeriodSeconds   float64          `json:"period_seconds"`
	Overdue         bool             `json:"overdue"`
	Differences     map[string]int64 `json:"differences"`
	Found           map[string]int64 `json:"differences_found_so_far"`
}

type workerReport struct {
	ID      string  `json:"id"`
	Seconds float64 `json:"seen_seconds_ago"`
	Late    bool    `json:"late"`
}

type queueReport struct {
	Queue string `json:"queue"`
	State string `json:"state"`
	Jobs  int64  `json:"jobs"`
}

// problem is something that is wrong, and what to do about it.
type problem struct {
	What string `json:"problem"`
	Do   string `json:"do"`
}

func readReport(e *env) (*report, error) {
	if err := migrations.CheckCurrent(e.ctx, e.pool); err != nil {
		return nil, err
	}
	q := queries.New(e.pool)
	now, err := state.Read(e.ctx, q, maxCounted)
	if err != nil {
		return nil, err
	}
	r := &report{
		DirtyEntries:   now.Status.DirtyEntries,
		Rebuilds:       rebuildReport{now.Status.Rebuilds, now.Status.OldestRebuildSeconds},
		Quarantine:     quarantineReport{Tasks: now.Status.Quarantined, Listed: []quarantinedTask{}},
		ZonesUnknown:   now.Status.RejectedZones,
		RefusedChanges: now.Status.RefusedChanges,
		Triggers:       triggersReport{On: now.Coverage.Attached, Since: timeOf(now.Coverage.AttachedAt)},
		Backfill: backfillReport{
			Complete: now.Coverage.Complete, Since: timeOf(now.Coverage.BackfillFinishedAt),
			Begun: now.Coverage.Attached && now.Coverage.ListedSinceAttached, TasksDone: now.Coverage.TasksDone, Tasks: now.Coverage.BackfillTasks,
		},
		Verified: verifiedReport{
			Runtimes: now.Verified.Runtimes, PeriodSeconds: now.Verified.PeriodSeconds, Overdue: now.Verified.Overdue,
			Differences: map[string]int64{}, Found: map[string]int64{},
		},
		refusedLately:   now.Status.RefusedLately,
		EntriesOfShards: map[int16]int64{},
		Workers:         []workerReport{}, Queues: []queueReport{},
	}
	if lag, known := now.LagSeconds(); known {
		r.LagSeconds = &lag
	}
	if now.Verified.Complete {
		r.Verified.LastPassSeconds = &now.Verified.OldestSeconds
	}
	for _, d := range now.Drift {
		r.Verified.Differences[d.Rollup] = d.Differences
	}
	for _, d := range now.DriftFound {
		r.Verified.Found[d.Rollup] = d.Differences
	}
	if now.Coverage.ClosedBefore.InfinityModifier == pgtype.Finite {
		closed := now.Coverage.ClosedBefore.Time.Format(time.DateOnly)
		r.ClosedBefore = &closed
	}
	if now.Cleanup.Visible {
		r.CleanupHeldSeconds = &now.Cleanup.Seconds
		r.CleanupHeld = &cleanupReport{now.Cleanup.Pid, now.Cleanup.Name, now.Cleanup.Transactions, now.Cleanup.Holder}
	} else if r.cleanupRemedy, err = q.GetCleanupRemedy(e.ctx); err != nil {
		return nil, fmt.Errorf("get what shows the longest transaction: %w", err)
	}
	if err := r.readLists(e.ctx, q); err != nil {
		return nil, err
	}
	r.WorkersAlive = now.Workers
	r.Problems = r.findProblems()
	return r, nil
}

func (r *report) readLists(ctx context.Context, q *queries.Queries) error {
	shards, err := q.ListDirtyShards(ctx, maxCounted)
	if err != nil {
		return fmt.Errorf("list waiting entries: %w", err)
	}
	for _, s := range shards {
		r.EntriesOfShards[s.Shard] = s.Entries
	}
	quarantined, err := q.ListQuarantined(ctx, maxListed)
	if err != nil {
		return fmt.Errorf("list quarantined tasks: %w", err)
	}
	for _, t := range quarantined {
		r.Quarantine.Listed = append(r.Quarantine.Listed, quarantinedTask{t.TaskID.String(), t.Error, t.QuarantinedAt.Time.UTC()})
	}
	workers, err := q.ListWorkers(ctx)
	if err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	for _, w := range workers[:min(len(workers), maxListed)] {
		r.Workers = append(r.Workers, workerReport{w.WorkerID, w.Seconds, w.Late})
	}
	queues, err := q.ListQueueDepths(ctx)
	if err != nil {
		return fmt.Errorf("list queue depths: %w", err)
	}
	for _, d := range queues {
		r.Queues = append(r.Queues, queueReport{d.Queue, d.State, d.Jobs})
	}
	return nil
}

const (
	// staleLag is a lag that somebody should look at: ten times what is ordinary.
	staleLag = 10
	// longHeld is how old a transaction is that is likely forgotten, and longRebuild a rebuild that is likely stuck.
	longHeld, longRebuild = 300, 600
	// manyKept is so many transactions that a standby or a replication slot is likely forgotten: those of a quarter of an hour or more.
	manyKept = 1_000_000
)

// findProblems says what is wrong, the worst first.
func (r *report) findProblems() []problem {
	found := []problem{}
	say := func(is bool, what, do string) {
		if is {
			found = append(found, problem{what, do})
		}
	}
	say(!r.Triggers.On, "Triggers are off the host's tables: changes are not counted.", "Run worker attach, then worker backfill.")
	say(r.Triggers.On && !r.Backfill.Complete, "What the host had before the triggers were on is not counted.", "Run worker backfill.")
	say(r.WorkersAlive == 0, "No worker is alive.", "Start worker run, on as many machines as you like.")
	say(r.WorkersAlive > 0 && r.LagSeconds != nil && *r.LagSeconds > staleLag, fmt.Sprintf("The lag is more than %d s.", staleLag),
		"Look at the logs of the workers, and for locks on their transactions.")
	say(r.LagSeconds == nil && r.Triggers.On && r.Backfill.Complete, "The lag is not known: nothing tells how old this standby is.",
		"Start worker run on the primary, and look whether the standby follows it.")
	say(len(r.Verified.Differences) > 0, "The last verification found differences.", "Workers repair them; to do it now, run worker verify --repair.")
	say(r.Verified.Overdue, fmt.Sprintf("Not everything was verified in the last %s, twice the --verify-period of the workers.", seconds(2*r.Verified.PeriodSeconds)),
		"Look at the logs of the workers for verifications that fail. To do it now, run worker verify.")
	say(r.Quarantine.Tasks > 0, "Tasks are in quarantine: they cannot be counted as they are.", "Put them right, or run worker requeue to try them again.")
	say(r.Rebuilds.OldestSeconds > longRebuild, "A rebuild has been asked for more than ten minutes ago.", "Look at the logs of the workers for runtimes that fail.")
	say(r.CleanupHeldSeconds != nil && *r.CleanupHeldSeconds > longHeld, "A transaction has been open for more than five minutes: Postgres cannot clean up.",
		"End it: SELECT pg_terminate_backend(PID), or ROLLBACK PREPARED if it is prepared.")
	say(r.CleanupHeld != nil && r.CleanupHeld.Transactions > manyKept && *r.CleanupHeldSeconds <= longHeld,
		fmt.Sprintf("Postgres keeps the old rows of more than %d transactions: it cannot clean up.", manyKept),
		"End what keeps them, which is said above: a long query on the standby, or a replication slot that nobody uses.")
	say(r.CleanupHeldSeconds == nil, "It is not known whether a transaction keeps Postgres from cleaning up.", "An administrator should run: "+r.cleanupRemedy)
	say(r.refusedLately, "Changes to closed days were refused in the last week: these days stay as they were counted.",
		"If the changes were right, correct the numbers of those days elsewhere. The logs of the workers name the tasks.")
	say(r.ZonesUnknown > 0, "Runtimes have a time zone that Postgres does not know.", "They count as UTC until agent_runtime.timezone is put right.")
	return found
}

// write prints the report for a person.
func (r *report) write(to io.Writer) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(table, name+"\t"+format+"\n", args...) }
	if r.LagSeconds != nil {
		line("lag", "%.1f s", *r.LagSeconds)
	} else {
		line("lag", "not known")
	}
	line("workers", "%s", workersSeen(r.WorkersAlive, r.Workers))
	line("dirty entries", "%s", entriesWaiting(r.DirtyEntries, r.EntriesOfShards))
	line("river jobs", "%s", queueDepths(r.Queues))
	line("rebuilds pending", "%d (oldest %.1f s)", r.Rebuilds.Pending, r.Rebuilds.OldestSeconds)
	line("quarantined tasks", "%d", r.Quarantine.Tasks)
	line("zones unknown to Postgres", "%d (counted in UTC)", r.ZonesUnknown)
	line("triggers", "%s", r.Triggers)
	line("backfill", "%s", r.Backfill)
	line("verified", "%s", r.Verified)
	if r.ClosedBefore != nil {
		line("closed days", "those before %s; %d changes refused", *r.ClosedBefore, r.RefusedChanges)
	}
	if r.CleanupHeldSeconds != nil {
		line("longest transaction", "%.1f s%s", *r.CleanupHeldSeconds, r.CleanupHeld)
	} else {
		line("longest transaction", "not known")
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(r.Quarantine.Listed) > 0 {
		fmt.Fprintln(to, "\nTasks in quarantine, and why:")
	}
	for _, t := range r.Quarantine.Listed {
		fmt.Fprintf(to, "%s  %s  %s\n", t.TaskID, t.Since.Format(timeLayout), t.Error)
	}
	if more := r.Quarantine.Tasks - int64(len(r.Quarantine.Listed)); more > 0 {
		fmt.Fprintf(to, "and %d more\n", more)
	}
	if len(r.Problems) == 0 {
		_, err := fmt.Fprintln(to, "\nNothing is wrong.")
		return err
	}
	fmt.Fprintln(to)
	for _, p := range r.Problems {
		fmt.Fprintf(to, "WRONG: %s\n       %s\n", p.What, p.Do)
	}
	return nil
}

func seconds(n float64) time.Duration { return time.Duration(n) * time.Second }

func timeOf(t pgtype.Timestamptz) *time.Time {
	if !t.Valid {
		return nil
	}
	utc := t.Time.UTC()
	return &utc
}

// workersSeen names those of the listed workers that are alive. More may be than are listed.
func workersSeen(count int64, workers []workerReport) string {
	var alive []string
	for _, w := range workers {
		if !w.Late {
			alive = append(alive, fmt.Sprintf("%s %.1f s ago", w.ID, w.Seconds))
		}
	}
	switch {
	case len(workers) == 0:
		return "none"
	case count == 0 || len(alive) == 0:
		return fmt.Sprintf("none; the last was seen %.0f s ago", workers[0].Seconds)
	default:
		said := fmt.Sprintf("%d; %s", count, strings.Join(alive, "; "))
		if more := count - int64(len(alive)); more > 0 {
			said += fmt.Sprintf("; and %d more", more)
		}
		return said
	}
}

func entriesWaiting(total int64, shards map[int16]int64) string {
	said := fmt.Sprint(total)
	if total >= maxCounted {
		said += " or more"
	}
	if len(shards) == 0 {
		return said
	}
	var byShard []string
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		byShard = append(byShard, fmt.Sprintf("%d: %d", shard, shards[shard]))
	}
	return said + "; by shard " + strings.Join(byShard, ", ")
}

func queueDepths(queues []queueReport) string {
	if len(queues) == 0 {
		return "none waiting or running"
	}
	var said []string
	for _, q := range queues {
		said = append(said, fmt.Sprintf("%s: %d %s", q.Queue, q.Jobs, q.State))
	}
	return strings.Join(said, ", ")
}

func (c *cleanupReport) String() string {
	var said string
	switch {
	case c.PID != 0:
		said = fmt.Sprintf(", pid %d (%s)", c.PID, c.Name)
	case c.Name != "":
		said = fmt.Sprintf(", prepared as %s", c.Name)
	}
	if c.Transactions > 0 {
		said += fmt.Sprintf("; old rows of %d transactions are kept for %s", c.Transactions, c.Holder)
	}
	return said
}

func (t triggersReport) String() string {
	if t.On && t.Since != nil {
		return "on since " + t.Since.Format(timeLayout)
	}
	return "OFF"
}

func (b backfillReport) String() string {
	switch {
	case b.Complete && b.Since != nil:
		return "complete since " + b.Since.Format(timeLayout)
	case b.Begun:
		return fmt.Sprintf("UNFINISHED: %d of %d tasks", b.TasksDone, b.Tasks)
	default:
		return "NEEDED"
	}
}

func (v verifiedReport) String() string {
	said := fmt.Sprintf("%d runtimes, not everything yet", v.Runtimes)
	if v.LastPassSeconds != nil {
		said = fmt.Sprintf("everything in the last %s", seconds(*v.LastPassSeconds))
	}
	if len(v.Differences) == 0 {
		said += "; no differences"
	}
	for _, table := range slices.Sorted(maps.Keys(v.Differences)) {
		said += fmt.Sprintf("; %d DIFFERENCES in %s", v.Differences[table], table)
	}
	var found int64
	for _, n := range v.Found {
		found += n
	}
	if found > 0 {
		said += fmt.Sprintf("; %d found so far", found)
	}
	return said
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/internal/testlog"
	"daybook/rollup"
)

// command runs the worker in this process and returns its exit code and what it printed.
func command(t *testing.T, pool *pgxpool.Pool, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var errs bytes.Buffer
	if pool != nil {
		args = append([]string{"--database-url", pool.Config().ConnString()}, args...)
	}
	code = run(t.Context(), args, out, &errs)
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	printed, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(printed), errs.String()
}

func TestInstallationFromNothing(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 3000, Days: 5}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args []string
		code int
		want string // in stdout, or in stderr if code is not 0
	}{
		{[]string{"status"}, 1, "run: worker migrate up"},
		{[]string{"verify"}, 2, "run: worker migrate up"},
		{[]string{"migrate", "status"}, 1, "run: worker migrate up"},
		{[]string{"migrate", "down"}, 0, "removed"},
		{[]string{"migrate", "up"}, 0, "applied 0001_create_queue.sql"},
		{[]string{"migrate", "up"}, 0, "up to date"},
		{[]string{"migrate", "status"}, 0, "0006_attach_triggers.sql"},
		{[]string{"status"}, 0, "NEEDED"},
		{[]string{"backfill"}, 0, "backfill complete: 3000 tasks"},
		{[]string{"backfill", "--if-needed"}, 0, "nothing to do"},
		{[]string{"status"}, 0, "complete since"},
		{[]string{"verify"}, 0, "no differences: 12 runtimes"},
		{[]string{"status"}, 0, "no differences"},
		{[]string{"verify", "--runtime", "x"}, 2, `"x" is not a runtime id`},
		{[]string{"verify", "--workspace", "x"}, 2, `"x" is not a workspace id`},
		{[]string{"verify", "--sample", "1ms"}, 0, "no differences: 12 runtimes"},
		{[]string{"verify", "--sample", "1ms", "--repair"}, 0, "no differences: "},
		{[]string{"verify", "--sample", "1s", "--runtime", "00000000-0000-0000-0000-000000000000"}, 2, "--sample takes a time such as 30s"},
		{[]string{"rebuild", "--all"}, 0, "asked for a rebuild of"},
		{[]string{"rebuild"}, 1, "name the runtimes to rebuild"},
		{[]string{"rebuild", "x"}, 2, `"x" is not a runtime id`},
		{[]string{"rebuild", "00000000-0000-0000-0000-000000000000"}, 1, "there is no runtime"},
		{[]string{"requeue"}, 1, "name the tasks to try again, or --all"},
		{[]string{"requeue", "x"}, 2, `"x" is not a task id`},
		{[]string{"requeue", "00000000-0000-0000-0000-000000000000"}, 1, "is not in quarantine; worker status lists those that are"},
		{[]string{"requeue", "--all"}, 0, "put 0 tasks back into the queue"},
		{[]string{"prune"}, 2, "--before"},
		{[]string{"prune", "--before", "yesterday"}, 2, `"yesterday" is not a date: give one such as 2025-01-31`},
		{[]string{"prune", "--before", "2999-01-01"}, 1, "these days are still served; the latest that may be closed are those before 20"},
		{[]string{"prune", "--before", "2020-01-01"}, 0, "days before 2020-01-01 are closed; 0 facts removed"},
		{[]string{"status"}, 0, "those before 2020-01-01; 0 changes refused"},
		{[]string{"status"}, 0, "WRONG: No worker is alive."},
		{[]string{"status", "--json"}, 0, `"problems":[{"problem":"No worker is alive."`},
		{[]string{"detach"}, 0, "Triggers are off"},
		{[]string{"status"}, 0, "OFF"},
		{[]string{"backfill"}, 1, "run: worker attach"},
		{[]string{"attach"}, 0, "Triggers are on"},
		{[]string{"status"}, 0, "NEEDED"},
		{[]string{"backfill", "--if-needed"}, 0, "backfill complete: 3000 tasks"},
		{[]string{"migrate", "down"}, 0, "removed"},
	} {
		code, stdout, stderr := command(t, pool, step.args...)
		printed := stdout
		if step.code != 0 {
			printed = stderr
		}
		if code != step.code || !strings.Contains(printed, step.want) {
			t.Fatalf("worker %s: code %d, want %d with %q\nstdout: %s\nstderr: %s",
				strings.Join(step.args, " "), code, step.code, step.want, stdout, stderr)
		}
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 300, Days: 5}); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := command(t, pool, "backfill"); code != 0 {
		t.Fatalf("code %d: %s%s", code, stdout, stderr)
	}
	_, err := pool.Exec(t.Context(), `DELETE FROM daybook.task_usage_daily WHERE (runtime_id, bucket_date) = (
		SELECT runtime_id, bucket_date FROM daybook.task_usage_daily ORDER BY 1, 2 LIMIT 1)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"verify"}, 1, []string{"task_usage_daily: expected {", ", found nothing\n", "the rollups differ from the source; run worker verify --repair"}},
		{[]string{"status"}, 0, []string{"DIFFERENCES in task_usage_daily", "run worker verify --repair"}},
		{[]string{"verify", "--repair"}, 0, []string{"found nothing", "made the buckets of 1 runtimes and 0 workspaces again", "no differences: 12 runtimes"}},
		{[]string{"verify"}, 0, []string{"no differences: 12 runtimes"}},
		{[]string{"status"}, 0, []string{"everything in the last", "no differences"}},
	} {
		code, stdout, stderr := command(t, pool, step.args...)
		for _, want := range step.want {
			if code != step.code || !strings.Contains(stdout+stderr, want) {
				t.Errorf("worker %s: code %d, want %d with %q\nstdout: %s\nstderr: %s", strings.Join(step.args, " "), code, step.code, want, stdout, stderr)
			}
		}
	}
	// The queue cannot be told apart from what is wrong until a TRUNCATE is expanded.
	if _, err := pool.Exec(t.Context(), `TRUNCATE public.task_usage`); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := command(t, pool, "verify"); code != 2 || !strings.Contains(stderr, "no telling") {
		t.Errorf("after a TRUNCATE: code %d, %s%s", code, stdout, stderr)
	}
}

func TestBadUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "migrate up"},
		{[]string{"run", "--help"}, 0, "--drain-workers"},
		{[]string{"bogus"}, 2, "unexpected argument bogus"},
		{[]string{"status", "--watch", "--interval", "1ms"}, 2, "--interval must be 100ms or more"},
		{[]string{"--version"}, 0, "devel ("},
		{[]string{"run", "--tick", "0s"}, 2, "--tick must be from 100ms to 1m"},
		{[]string{"run", "--drain-workers", "0"}, 2, "from 1 to 64"},
		{[]string{"run", "--verify-period", "1s"}, 2, "--verify-period must be 1m or more"},
		{[]string{"verify", "--help"}, 0, "--repair"},
		{[]string{"status", "--database-url", "postgres://u:secret@127.0.0.1:port/x"}, 2, "DATABASE_URL"},
		{[]string{"status", "--database-url", ""}, 2, "DATABASE_URL is empty"},
	} {
		code, stdout, stderr := command(t, nil, test.args...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("worker %s: code %d, want %d with %q\n%s%s", strings.Join(test.args, " "), code, test.code, test.want, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "secret") {
			t.Errorf("worker %s shows a password:\n%s%s", strings.Join(test.args, " "), stdout, stderr)
		}
	}
}

// The commands stop when they are asked to.
func TestBackfillStops(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errs bytes.Buffer
	if code := run(ctx, []string{"--database-url", pool.Config().ConnString(), "backfill"}, os.Stdout, &errs); code != 130 {
		t.Errorf("code %d, want 130: %s", code, errs.String())
	}
}

// A task in quarantine is listed with the reason, and leaves the quarantine when it is put right and tried again.
func TestQuarantineIsListedAndRequeued(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`
		INSERT INTO public.workspace (slug) VALUES ('acme');
		INSERT INTO public.agent_runtime (workspace_id, name, provider) SELECT id, 'r', 'p' FROM public.workspace;
		INSERT INTO public.agent (workspace_id, runtime_id) SELECT workspace_id, id FROM public.agent_runtime;
		INSERT INTO public.agent_task_queue (id, agent_id, runtime_id) SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, id, runtime_id FROM public.agent, generate_series(1, 2) n;
		INSERT INTO public.task_usage (task_id, provider, model, input_tokens) SELECT id, 'p', 'm', 9223372036854775807 FROM public.agent_task_queue;`)
	drain := func() {
		t.Helper()
		for shard := range int16(16) { // One after the other, so that the order is known.
			if _, err := rollup.Drain(t.Context(), pool, []int16{shard}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	require := func(want string, args ...string) {
		t.Helper()
		code, stdout, stderr := command(t, pool, args...)
		if code != 0 || !strings.Contains(strings.Join(strings.Fields(stdout), " "), want) {
			t.Fatalf("worker %s: code %d, want %q\nstdout: %s\nstderr: %s", strings.Join(args, " "), code, want, stdout, stderr)
		}
	}
	drain()
	var task string
	if err := pool.QueryRow(t.Context(), `SELECT task_id::text FROM daybook.task_usage_daily_quarantine`).Scan(&task); err != nil {
		t.Fatal(err)
	}
	require(task, "status")
	require("out of range", "status")
	require("put 1 tasks back into the queue", "requeue", task)
	drain()
	require("quarantined tasks 1", "status")
	exec(`UPDATE public.task_usage SET input_tokens = 1; TRUNCATE daybook.task_usage_daily_dirty`)
	require("put 1 tasks back into the queue", "requeue", "--all")
	exec(`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT daybook.shard_of(id), id FROM public.agent_task_queue`)
	drain()
	require("quarantined tasks 0", "status")
	testdb.RequireExact(t, pool)
}

// What status prints for scripts is what it prints for people.
func TestStatusForScripts(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	p := startWorker(t, pool)
	if err := history.Play(t.Context(), pool, history.Config{Seed: 3, Transactions: 20}); err != nil {
		t.Fatal(err)
	}
	awaitEmptyQueue(t, pool)
	var r report
	await(t, "a worker that is seen", func() (bool, error) {
		code, stdout, stderr := command(t, pool, "status", "--json")
		if code != 0 {
			return false, errors.New(stderr)
		}
		return len(r.Workers) == 1, json.Unmarshal([]byte(stdout), &r)
	})
	if r.LagSeconds == nil || *r.LagSeconds != 0 || r.DirtyEntries != 0 || !r.Triggers.On || !r.Backfill.Complete || len(r.Problems) != 0 {
		t.Errorf("%+v", r)
	}
	p.signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO daybook.task_usage_daily_quarantine (task_id, error) VALUES (gen_random_uuid(), 'why')`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE daybook.worker_heartbeat SET beat_at = now() - interval '1 minute'`); err != nil {
		t.Fatal(err)
	}
	_, stdout, _ := command(t, pool, "status")
	for _, want := range []string{"none; the last was seen", "WRONG: No worker is alive.", "WRONG: Tasks are in quarantine", "worker requeue", "  why"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("without %q:\n%s", want, stdout)
		}
	}
}

// It goes on until it is stopped, and over a database that is away. What scripts read is JSON all the time.
func TestStatusIsWatched(t *testing.T) {
	t.Parallel()
	proxy, address := testdb.NewProxy(t, testdb.New(t))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "status", "--watch", "--interval", "100ms", "--json")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+address.String())
	var stdout, stderr logBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	more := func(b *logBuffer, what string) {
		t.Helper()
		before := len(b.lines())
		await(t, what, func() (bool, error) { return len(b.lines()) >= before+3, nil })
	}
	more(&stdout, "looks")
	proxy.Cut()
	more(&stderr, "errors")
	said := len(stdout.lines())
	more(&stderr, "errors")
	if now := len(stdout.lines()); now != said {
		t.Errorf("%d looks at a database that is away", now-said)
	}
	proxy.Up(t)
	more(&stdout, "looks after it came back")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for _, line := range stdout.lines() {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
	for _, line := range stderr.lines() {
		if !strings.HasPrefix(line, "worker: ") {
			t.Errorf("not an error: %q", line)
		}
	}
}

// logBuffer is written to by a process and read meanwhile.
type logBuffer struct{ testlog.Buffer }

// lines are those that are whole.
func (b *logBuffer) lines() []string {
	lines := strings.Split(b.String(), "\n")
	return lines[:len(lines)-1]
}

// Each thing that an operator must know makes a problem, and nothing else does.
func TestProblems(t *testing.T) {
	t.Parallel()
	known := func(n float64) *float64 { return &n }
	well := func() *report {
		return &report{
			LagSeconds: known(0.5), WorkersAlive: 1, CleanupHeldSeconds: known(0), Triggers: triggersReport{On: true}, Backfill: backfillReport{Complete: true},
			Verified: verifiedReport{PeriodSeconds: 3600},
		}
	}
	for _, test := range []struct {
		name   string
		change func(*report)
		want   []string
	}{
		{"all is well", func(*report) {}, nil},
		{"a standby that nothing tells how old it is", func(r *report) { r.LagSeconds = nil }, []string{"The lag is not known"}},
		{"triggers off", func(r *report) { r.LagSeconds, r.Triggers.On, r.Backfill.Complete = nil, false, false }, []string{"Triggers are off"}},
		{"backfill due", func(r *report) { r.LagSeconds, r.Backfill.Complete = nil, false }, []string{"is not counted"}},
		{"a lag", func(r *report) { r.LagSeconds = known(11) }, []string{"The lag is more than 10 s"}},
		{"no worker, and a lag", func(r *report) { r.LagSeconds, r.WorkersAlive = known(11), 0 }, []string{"No worker is alive"}},
		{"verifications are late", func(r *report) { r.Verified.Overdue = true }, []string{"Not everything was verified in the last 2h0m0s"}},
		{"differences", func(r *report) { r.Verified.Differences = map[string]int64{"task_fact": 1} }, []string{"found differences"}},
		{"refused changes", func(r *report) { r.refusedLately = true }, []string{"Changes to closed days were refused"}},
		{"nobody sees", func(r *report) { r.CleanupHeldSeconds, r.cleanupRemedy = nil, "GRANT it;" }, []string{"It is not known whether a transaction"}},
		{"a transaction", func(r *report) { r.CleanupHeldSeconds = known(301) }, []string{"A transaction has been open"}},
		{"a slot that nobody uses", func(r *report) { r.CleanupHeld = &cleanupReport{Transactions: 1_000_001, Holder: "replication slot s"} },
			[]string{"Postgres keeps the old rows of more than 1000000 transactions"}},
		{"quarantine", func(r *report) { r.Quarantine.Tasks = 1 }, []string{"in quarantine"}},
		{"a rebuild", func(r *report) { r.Rebuilds.OldestSeconds = 601 }, []string{"A rebuild has been asked for"}},
		{"a zone", func(r *report) { r.ZonesUnknown = 1 }, []string{"time zone that Postgres does not know"}},
	} {
		r := well()
		test.change(r)
		r.Problems = r.findProblems()
		if len(r.Problems) != len(test.want) {
			t.Errorf("%s: problems are %+v", test.name, r.Problems)
			continue
		}
		var screen strings.Builder
		if err := r.write(&screen); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(screen.String(), "Nothing is wrong.") != (len(test.want) == 0) {
			t.Errorf("%s: it says\n%s", test.name, &screen)
		}
		for i, p := range r.Problems {
			if !strings.Contains(p.What, test.want[i]) || p.Do == "" {
				t.Errorf("%s: %+v, want %q", test.name, p, test.want[i])
			}
		}
	}
}

// What the database says of verifications, of closed days and of shards.
func TestStatusSaysWhatIsLate(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	says := func(want string) bool {
		t.Helper()
		code, stdout, stderr := command(t, pool, "status")
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.Contains(strings.Join(strings.Fields(stdout), " "), want)
	}
	const late = "WRONG: Not everything was verified in the last"
	exec(`INSERT INTO daybook.worker_heartbeat (worker_id, beat_at, verify_period) VALUES ('w', now(), interval '1 hour')`)
	exec(`INSERT INTO daybook.verification (unit, attempted_at, verified_at) VALUES ('00000000-0000-0000-0000-000000000000', now(), now() - interval '119 min')`)
	backfilled := func(ago string) {
		exec(`UPDATE daybook.coverage SET attached_at = now() - interval '2 days', backfill_listed_at = now() - interval '1 day',
			backfill_finished_at = now() - interval '` + ago + `'`)
	}
	for _, step := range []struct {
		name string
		do   func()
		want bool
	}{
		{"verified in time", func() { backfilled("5 hours") }, false},
		{"verified too long ago", func() { exec(`UPDATE daybook.verification SET verified_at = now() - interval '121 min'`) }, true},
		{"backfilled a moment ago", func() { backfilled("1 hour") }, false},
		{"asked for, and not done for long", func() {
			backfilled("5 hours")
			exec(`UPDATE daybook.verification SET verified_at = NULL, waits_since = now() - interval '121 min'`)
			exec(`INSERT INTO daybook.verification (unit, attempted_at, verified_at) VALUES (gen_random_uuid(), now(), now())`)
		}, true},
		{"asked for", func() { exec(`UPDATE daybook.verification SET waits_since = now()`) }, false},
		{"never", func() { exec(`DELETE FROM daybook.verification`) }, true},
		{"a longer period", func() { exec(`UPDATE daybook.worker_heartbeat SET verify_period = interval '1 day'`) }, false},
	} {
		step.do()
		if got := says(late); got != step.want {
			t.Errorf("%s: late is %t", step.name, got)
		}
	}
	const refused = "WRONG: Changes to closed days were refused"
	if says(refused) {
		t.Error("nothing was refused")
	}
	exec(`UPDATE daybook.refused_change SET tasks = 3, last_at = now() - interval '6 days'`)
	if !says(refused) {
		t.Error("it does not say what was refused")
	}
	exec(`UPDATE daybook.refused_change SET last_at = now() - interval '8 days'`)
	if says(refused) {
		t.Error("it says for ever what was refused")
	}
	exec(`INSERT INTO daybook.task_usage_daily_dirty (shard, task_id) SELECT s, gen_random_uuid() FROM unnest('{12,3,12}'::smallint[]) s`)
	if !says("dirty entries 3; by shard 3: 1, 12: 2 ") {
		t.Error("it does not say how many entries each shard has")
	}
}

// get asks the admin listener of a worker. The status is 0 if there is none.
func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// A worker that finds no database, or none with the schema, or whose password is refused, waits.
func TestWorkerWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	proxy, address := testdb.NewProxy(t, pool)
	proxy.Cut()
	stopped, p := startWorkerOn(t, address.String()), startWorkerOn(t, address.String(), "--metrics-addr", "127.0.0.1:0", "--river-ui")
	says := func(p *process, what string) {
		t.Helper()
		await(t, what, func() (bool, error) { return strings.Contains(p.output.String(), what), nil })
	}
	says(p, "connection refused")
	says(stopped, "connection refused")
	addr := listeningAt.FindStringSubmatch(p.output.String())[1]
	requireWaiting := func() {
		t.Helper()
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/riverui/": 503, "/metrics": 200} {
			if status, body := get(t, addr, path); status != want {
				t.Errorf("%s: %d, want %d; %s", path, status, want, body)
			}
		}
	}
	requireWaiting()
	stopped.signal(t, syscall.SIGTERM)
	if err := stopped.Wait(); err != nil {
		t.Errorf("one that waits, after SIGTERM: %v", err)
	}

	proxy.Up(t)
	address.User = url.UserPassword("daybook_nobody", "wrong")
	refused := startWorkerOn(t, address.String())
	says(refused, "SQLSTATE 28")
	refused.signal(t, syscall.SIGTERM)
	if err := refused.Wait(); err != nil {
		t.Errorf("one whose password is refused, after SIGTERM: %v", err)
	}
	says(p, "run: worker migrate up")
	requireWaiting()
	if code, _, stderr := command(t, pool, "migrate", "up"); code != 0 {
		t.Fatal(stderr)
	}
	says(p, "worker started")
	await(t, "a worker that is ready", func() (bool, error) {
		status, _ := get(t, addr, "/readyz")
		return status == http.StatusOK, nil
	})
	for path, want := range map[string]string{"/metrics": "daybook_drained_entries_total 0", "/riverui/": "<title>River"} {
		if status, body := get(t, addr, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d without %q", path, status, want)
		}
	}
	p.signal(t, syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

var listeningAt = regexp.MustCompile(`msg=listening server=metrics addr=(\S+)`)

func TestMetricsOfAWorker(t *testing.T) {
	t.Parallel()
	pool := testdb.New(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := taken.Addr().String()
	code, _, stderr := command(t, pool, "run", "--metrics-addr", addr)
	if code != 1 || !strings.Contains(stderr, "choose another address with --metrics-addr") {
		t.Errorf("code %d: %s", code, stderr)
	}
	taken.Close()
	startWorker(t, pool, "--metrics-addr", addr, "--river-ui")
	get := func(path string) (int, string) { return get(t, addr, path) }
	await(t, "a worker that is ready", func() (bool, error) {
		status, _ := get("/readyz")
		return status == http.StatusOK, nil
	})
	for path, want := range map[string]string{
		"/healthz": "ok", "/metrics": "daybook_build_info{", "/riverui/": "<title>River", "/riverui/api/queues": `"name":"drain"`,
	} {
		if status, body := get(path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d without %q", path, status, want)
		}
	}
	// A page of another site, in the browser of somebody who can reach it.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/riverui/api/jobs/delete", strings.NewReader(`{"ids":["1"]}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://example.com")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("another site may delete jobs: %s", response.Status)
	}
}

//go:build chaos

package chaos

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/localpg"
)

const (
	// changedZone gets the rules of otherZone, which differ from its own for some weeks of each spring and some days of each autumn.
	changedZone = "Africa/Cairo"
	otherZone   = "Europe/Athens"
	// rulesFound is how long after its start on new rules a server is asked for them at most: 15 ticks, and a second for the job.
	rulesFound = 16 * time.Second
	// quiet is a runtime of the zone whose buckets are the same by both rules, and for which nobody writes.
	quiet = "cairo-3"
)

// ownMounts is set in the environment of a test process that has a mount namespace of its own.
const ownMounts = "DAYBOOK_CHAOS_OWN_MOUNTS"

// TestChangedZoneRules changes the rules of a time zone under Postgres, as an update of the machine's time zone data does, and starts
// Postgres anew while workers run. It mounts the file of another zone over the zone's. So that nobody else ever sees that, it runs
// in a process with a mount namespace of its own, which ends with the last of its processes.
func TestChangedZoneRules(t *testing.T) {
	t.Parallel()
	const name = "rules of a time zone changed under Postgres"
	if os.Getenv(ownMounts) != "" {
		changeZoneRules(t, name)
		return
	}
	if os.Geteuid() != 0 {
		if testing.Short() {
			note(t, name, "not run: needs root", "", "")
			return
		}
		t.Fatal("a mount needs root: run as root, or leave it out with -skip TestChangedZoneRules")
	}
	report := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(report, []byte(reportBegin+reportEnd), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()),
		"-worker="+*workerPath, "-api="+*apiPath, "-report="+report)
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	runtime.LockOSThread() // The signal is sent when the thread ends that started the process.
	defer runtime.UnlockOSThread()
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	lines := parseTable(strings.TrimSuffix(strings.TrimPrefix(string(b), reportBegin), reportEnd))
	if len(lines) == 0 {
		t.Fatalf("nothing was measured:\n%s", said)
	}
	for _, l := range lines {
		note(t, l.fault, l.what, l.value, l.bound)
	}
}

func changeZoneRules(t *testing.T, name string) {
	t.Helper()
	config := localpg.Config{Dir: serverDir(t), Settings: map[string]string{"fsync": "off"}}
	server := startServer(t, config)
	pool := install(t, server)
	fillForZones(t, pool)
	folder := zoneFolder(t, pool)
	workers := []*worker{startWorker(t, urlOf(t, pool), "run"), startWorker(t, urlOf(t, pool), "run")}
	awaitQuery(t, pool, `SELECT EXISTS (SELECT FROM daybook.zone_rules WHERE timezone = $1)`, changedZone)
	changed := query[[]string](t, pool, `SELECT array_agg(name ORDER BY name) FROM public.agent_runtime WHERE timezone = $1 AND name <> $2`, changedZone, quiet)

	// To the other zone's rules and, in a full round, back.
	for _, step := range []struct {
		what  string
		mount []string
	}{
		{"changed", []string{"mount", "--bind", filepath.Join(folder, otherZone), filepath.Join(folder, changedZone)}},
		{"changed back", []string{"umount", filepath.Join(folder, changedZone)}},
	}[:byLength(2, 1)] {
		load := startLoad(t, pool, 100, quiet)
		watch := watchLag(t, pool)
		passes(t.Context(), 2*time.Second)
		revision := query[int64](t, pool, `SELECT revision FROM daybook.zone_check`)
		before := rebuiltAt(t, pool)
		if out, err := exec.CommandContext(t.Context(), step.mount[0], step.mount[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", step.mount, err, out)
		}
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		server = startServer(t, config)
		healed := time.Now()
		awaitQuery(t, pool, `SELECT revision > $1 FROM daybook.zone_check`, revision)
		found := time.Since(healed)
		awaitQuery(t, pool, `SELECT NOT EXISTS (SELECT FROM daybook.runtime_rebuild)`)
		exact := time.Since(healed)
		rebuilt := differing(before, rebuiltAt(t, pool))
		if !slices.Equal(rebuilt, changed) {
			t.Errorf("rebuilt: %v; only the buckets of %v are concerned", rebuilt, changed)
		}
		passes(t.Context(), time.Second)
		written, failed := load.stop()
		_, recovered := watch.ends(healed)
		noteTime(t, name, step.what+": found after the start of the server", found, rulesFound)
		noteTime(t, name, step.what+": all buckets by the new rules", exact, rulesFound+recovery)
		note(t, name, step.what+": runtimes rebuilt", fmt.Sprintf("%d of %d, those whose buckets differ", len(rebuilt), len(before)), "no others")
		note(t, name, step.what+": under load", fmt.Sprintf("%d writes, %d refused meanwhile", written, failed), "")
		noteTime(t, name, step.what+": lag under 3 s after the server was back", recovered, recovery)
		requireExact(t, pool)
	}
	if n := len(complaints([]string{"the rules of a time zone have changed"}, workers...)); n != byLength(2, 1) {
		t.Errorf("the workers said %d times that rules have changed", n)
	}
	if code := startWorker(t, urlOf(t, pool), "verify").wait(); code != 0 {
		t.Errorf("worker verify exited with %d", code)
	}
	retire(t, workers...)
}

// fillForZones makes a host with three runtimes of the zone, from a winter to the summer after.
func fillForZones(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	until := time.Date(2024, 5, 31, 12, 0, 0, 0, time.UTC)
	fill(t, pool, demo.Size{Tasks: 2000, Runtimes: 24, Days: 120, Until: until})
	execute(t, pool, `UPDATE public.task_usage SET created_at = '2024-02-10 22:30Z' WHERE task_id IN (
		SELECT t.id FROM public.agent_task_queue t JOIN public.agent_runtime r ON r.id = t.runtime_id WHERE r.name = $1)`, quiet)
	execute(t, pool, `UPDATE public.agent_task_queue t SET started_at = '2024-02-10 22:30Z', completed_at = '2024-02-10 22:40Z'
		FROM public.agent_runtime r WHERE r.id = t.runtime_id AND r.name = $1 AND t.completed_at IS NOT NULL`, quiet)
	execute(t, pool, `UPDATE public.agent_task_queue t SET started_at = NULL
		FROM public.agent_runtime r WHERE r.id = t.runtime_id AND r.name = $1 AND t.completed_at IS NULL`, quiet)
}

// zoneFolder is where the server reads time zones.
func zoneFolder(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	share := query[string](t, pool, `SELECT setting FROM pg_config WHERE name = 'SHAREDIR'`)
	configured := query[string](t, pool, `SELECT coalesce(substring(setting FROM '--with-system-tzdata=([^'' ]+)'), '') FROM pg_config WHERE name = 'CONFIGURE'`)
	return orElse(configured, filepath.Join(share, "timezone"))
}

// rebuiltAt is when each runtime, by its name, was last rebuilt.
func rebuiltAt(t *testing.T, pool *pgxpool.Pool) map[string]time.Time {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT r.name, b.rebuilt_at FROM daybook.runtime_rollup b JOIN public.agent_runtime r ON r.id = b.runtime_id`)
	if err != nil {
		t.Fatal(err)
	}
	type pair struct {
		Name string
		At   time.Time
	}
	pairs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[pair])
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[string]time.Time)
	for _, p := range pairs {
		at[p.Name] = p.At
	}
	return at
}

// differing are the names whose times differ, in order.
func differing(before, after map[string]time.Time) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if !after[name].Equal(before[name]) {
			names = append(names, name)
		}
	}
	return names
}

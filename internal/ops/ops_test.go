//go:build ops

package ops

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v3"
)

func TestRulesAreRight(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Glob("../../deploy/prometheus/*_test.yml")
	if err != nil || len(rules) == 0 {
		t.Fatalf("%q, %v", rules, err)
	}
	for _, command := range [][]string{
		{"promtool", "check", "config", "../../deploy/prometheus/prometheus.yml"},
		{"promtool", "check", "config", "--syntax-only", "../../deploy/compose/prometheus.yml"},
		append([]string{"promtool", "test", "rules"}, rules...),
		{"amtool", "check-config", "../../deploy/prometheus/alertmanager.yml"},
	} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", command, err, out)
		}
	}
}

var alertName = regexp.MustCompile(`(?m)- alert: (\w+)$`)

// Every alert has an entry in the runbook, and names it.
func TestAlertsAreExplained(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range alertName.FindAllStringSubmatch(shipped, -1) {
		name := match[1]
		if !strings.Contains(string(runbook), "# "+name+"\n") {
			t.Errorf("%s has no entry in the runbook", name)
		}
		if !strings.Contains(shipped, "{{ end }}#"+strings.ToLower(name)+"'") {
			t.Errorf("%s does not name its entry", name)
		}
	}
}

// ruleTest is one test in a file of promtool.
type ruleTest struct {
	Name    string
	Queries []struct {
		Expr    string
		Samples []struct{ Labels string } `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// isAbout tells whether the name of a test has that of an alert, as a whole word.
func (r ruleTest) isAbout(alert string) bool {
	return slices.Contains(strings.FieldsFunc(r.Name, func(c rune) bool { return c == ' ' || c == ',' }), alert)
}

func ruleTests(t *testing.T) (tests []ruleTest) {
	t.Helper()
	files, err := filepath.Glob("../../deploy/prometheus/*_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct{ Tests []ruleTest }
		if err := yaml.Unmarshal(content, &parsed); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, parsed.Tests...)
	}
	return tests
}

// tested tells whether there is a test in which an alert fires, and one that is about its silence: in which it never fires.
func tested(alert string, tests []ruleTest) (firing, silent bool) {
	for _, test := range tests {
		fires, quiet := false, false
		for _, query := range test.Queries {
			if query.Expr != `ALERTS{alertname="`+alert+`"}` {
				continue
			}
			quiet = quiet || len(query.Samples) == 0
			for _, sample := range query.Samples {
				fires = fires || strings.Contains(sample.Labels, `alertstate="firing"`)
			}
		}
		firing = firing || fires
		silent = silent || quiet && !fires && test.isAbout(alert) && strings.Contains(test.Name, "silent")
	}
	return firing, silent
}

// Every alert has a test in which it fires, and one in which it is silent.
func TestAlertsAreTested(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	tests := ruleTests(t)
	for _, match := range alertName.FindAllStringSubmatch(shipped, -1) {
		alert := match[1]
		if firing, silent := tested(alert, tests); !firing || !silent {
			t.Errorf("%s is tested firing: %t, silent: %t", alert, firing, silent)
		}
		// What this test says must depend on those tests.
		without := func(word string) []ruleTest {
			return slices.DeleteFunc(slices.Clone(tests), func(test ruleTest) bool {
				return test.isAbout(alert) && strings.Contains(test.Name, "silent") == (word == "silent")
			})
		}
		if _, silent := tested(alert, without("silent")); silent {
			t.Errorf("%s counts as tested silent without the test", alert)
		}
		if firing, _ := tested(alert, without("firing")); firing {
			t.Errorf("%s counts as tested firing without the tests", alert)
		}
	}
}

// What is served is as Prometheus's own tool wants it.
func TestMetricsAreWellFormed(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	i := install(t, shipped)
	for _, addr := range []string{"127.0.0.1:9464", "127.0.0.1:9465"} {
		i.change(t)
		i.read(t)
		if out, err := i.try(t, "", "curl -fsS http://"+addr+"/metrics | promtool check metrics"); err != nil {
			t.Errorf("%s: %v\n%s", addr, err, out)
		}
	}
}

// Whatever is killed, alerts fire; when it is back they are resolved. The notifications name the runbook that the operator has set.
func TestAlertsOfFaults(t *testing.T) {
	t.Parallel()
	_, hasty := shippedRules(t)
	i := install(t, hasty)
	fires := func(alerts ...string) {
		t.Helper()
		await(t, "alerts", func() bool {
			firing := i.firing(t)
			return !slices.ContainsFunc(alerts, func(alert string) bool { return !slices.Contains(firing, alert) })
		})
		await(t, "notifications", func() bool {
			return !slices.ContainsFunc(alerts, func(alert string) bool { return i.alertmanager.link(alert) != runbookURL+"#"+strings.ToLower(alert) })
		})
	}
	resolved := func() {
		t.Helper()
		await(t, "no alert", func() bool { return i.count("daybook_rollup_lag_seconds") == 1 && len(i.firing(t)) == 0 })
	}
	kill := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	resolved()

	kill(i.worker)
	i.change(t)
	fires("DaybookLagHigh", "DaybookNoWorker", "DaybookProcessDown")
	i.startWorker(t)
	resolved()

	kill(i.api)
	fires("DaybookMetricsBlind", "DaybookProcessDown")
	i.startAPI(t)
	resolved()

	if err := i.server.Stop(); err != nil {
		t.Fatal(err)
	}
	fires("DaybookMetricsBlind", "DaybookProcessDown")
	i.startServer(t)
	resolved()
}

// Every query of the dashboard is valid, and has something to show.
func TestDashboard(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	i := install(t, shipped)
	content, err := os.ReadFile("../../deploy/grafana/daybook.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatal(err)
	}
	queries := expressions(dashboard)
	if len(queries) < 20 {
		t.Fatalf("%d queries", len(queries))
	}
	execute(t, i.host, `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`)
	for _, query := range queries {
		// What is absent must be seen to be.
		if strings.Contains(query, "vector(") {
			t.Errorf("%s shows something where there is nothing", query)
		}
		await(t, "series of "+query, func() bool {
			i.change(t)
			i.read(t)
			return i.count(query) > 0
		})
	}
}

func expressions(node any) (found []string) {
	switch n := node.(type) {
	case map[string]any:
		for key, value := range n {
			if text, ok := value.(string); ok && key == "expr" {
				found = append(found, text)
			}
			found = append(found, expressions(value)...)
		}
	case []any:
		for _, value := range n {
			found = append(found, expressions(value)...)
		}
	}
	return found
}

// illness is what is wrong with an installation, and what the runbook calls it.
type illness struct {
	pid           uint32 // PID, of a forgotten transaction
	task, runtime string // TASK, in quarantine, and RUNTIME, in a zone that is not known
}

const (
	forgotten = "forgotten" // GID
	unread    = "unread"    // SLOT
)

// fallIll makes all wrong that the runbook's questions are about: a transaction that locks tables and keeps changes and a rebuild waiting, another
// that is prepared, a slot, a task in quarantine, an unknown zone, and a trigger that is off.
func (i *installation) fallIll(t *testing.T) illness {
	t.Helper()
	var ill illness
	for sql, id := range map[string]*string{
		`UPDATE public.agent_task_queue SET completed_at = 'infinity' WHERE id = (SELECT task_id FROM public.task_usage LIMIT 1) RETURNING id`: &ill.task,
		`UPDATE public.agent_runtime SET timezone = 'Mars/Olympus' WHERE id = (SELECT id FROM public.agent_runtime LIMIT 1) RETURNING id`:      &ill.runtime,
	} {
		if err := i.host.QueryRow(t.Context(), sql).Scan(id); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	await(t, "the quarantine, the zone and a verification", func() bool {
		return i.holds(t, `SELECT EXISTS (SELECT FROM daybook.task_usage_daily_quarantine) AND EXISTS (SELECT FROM daybook.verification)
			AND EXISTS (SELECT FROM daybook.runtime_rollup WHERE timezone <> host_timezone)`)
	})
	execute(t, i.super, `SELECT pg_create_physical_replication_slot('`+unread+`')`)
	execute(t, i.host, `BEGIN; CREATE TABLE public.scratch (); PREPARE TRANSACTION '`+forgotten+`'`)
	execute(t, i.host, `ALTER TABLE public.issue DISABLE TRIGGER USER`)

	conn, err := pgx.Connect(t.Context(), i.ownerURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	ill.pid = conn.PgConn().PID()
	if _, err := conn.Exec(t.Context(), `BEGIN; LOCK TABLE public.agent_task_queue, public.agent_runtime`); err != nil {
		t.Fatal(err)
	}
	i.change(t)
	execute(t, i.super, `INSERT INTO daybook.runtime_rebuild (runtime_id) SELECT runtime_id FROM daybook.runtime_rollup LIMIT 1`)
	return ill
}

// holds asks as the superuser whether something is so.
func (i *installation) holds(t *testing.T, sql string) (is bool) {
	t.Helper()
	if err := i.super.QueryRow(t.Context(), sql).Scan(&is); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return is
}

// Every command of the runbook works as it is written, with the least rights, where something is wrong: questions have answers, and ways out lead out.
func TestRunbook(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	i := install(t, shipped)
	prelude, commands := runbookCommands(t)
	ill := i.fallIll(t)
	names := strings.NewReplacer("(PID)", "("+strconv.Itoa(int(ill.pid))+")", "'GID'", "'"+forgotten+"'", "'SLOT'", "'"+unread+"'",
		" TASK", " "+ill.task, "'RUNTIME'", "'"+ill.runtime+"'")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(shipped), 0o600); err != nil {
		t.Fatal(err)
	}
	isQuestion := func(command string) bool {
		return strings.HasPrefix(command, "psql") && strings.Contains(command, "SELECT") && names.Replace(command) == command
	}
	for _, command := range commands {
		if isQuestion(command) {
			await(t, "rows of "+command, func() bool {
				out, err := i.try(t, dir, prelude+command)
				if err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out)
				}
				return !strings.Contains(out, "(0 rows)")
			})
		}
	}
	for _, command := range commands {
		if isQuestion(command) {
			continue
		}
		if out, err := i.try(t, dir, prelude+names.Replace(command)); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
	for what, sql := range map[string]string{
		"the transaction":                `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ` + strconv.Itoa(int(ill.pid)) + `)`,
		"what is prepared, and the slot": `SELECT NOT EXISTS (SELECT FROM pg_prepared_xacts) AND NOT EXISTS (SELECT FROM pg_replication_slots)`,
		"the triggers":                   `SELECT NOT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE 'daybook%' AND tgenabled = 'D')`,
		"the zone":                       `SELECT NOT EXISTS (SELECT FROM daybook.runtime_rollup WHERE timezone <> host_timezone)`,
		"the queue":                      `SELECT NOT EXISTS (SELECT FROM daybook.task_usage_daily_dirty) AND NOT EXISTS (SELECT FROM daybook.runtime_rebuild)`,
	} {
		await(t, what+" to be as it should", func() bool { return i.holds(t, sql) })
	}
	changed, err := os.ReadFile(filepath.Join(dir, "rules.yml"))
	if err != nil || strings.Count(string(changed), "14 * 86400") != 1 || strings.Count(string(changed), "14d") != 2 {
		t.Errorf("the rules were not changed for another period: %v", err)
	}
}

var shellBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")

// runbookCommands returns what is to be typed before all others, and the others, each once.
func runbookCommands(t *testing.T) (prelude string, commands []string) {
	t.Helper()
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range shellBlock.FindAllStringSubmatch(string(runbook), -1) {
		for line := range strings.Lines(block[1]) {
			switch line = strings.TrimSpace(line); {
			case strings.HasPrefix(line, "plain()"):
				prelude += line + "\n"
			case !slices.Contains(commands, line):
				commands = append(commands, line)
			}
		}
	}
	if prelude == "" || len(commands) < 20 {
		t.Fatalf("%q, %d commands", prelude, len(commands))
	}
	return prelude, commands
}

// An administrator makes the roles, by the steps of docs/deployment.md, for a host whose role may not. Afterwards all can be removed.
func TestAdministratorMakesRoles(t *testing.T) {
	t.Parallel()
	i := newHost(t, "")
	i.adminURL = i.server.URL()[:strings.LastIndex(i.server.URL(), "/")] + "/host?sslmode=disable"
	page, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	steps := ""
	for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], "worker migrate roles |") {
			steps = block[1]
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := i.try(t, root, "set -e; export WORKER_PASSWORD=worker API_PASSWORD=api\n"+steps); err != nil {
		t.Fatalf("%s: %v\n%s", steps, err, out)
	}
	i.shell(t, `DATABASE_URL="$OWNER_URL" worker migrate up`)
	i.shell(t, `worker backfill --if-needed`)
	i.startWorker(t)
	i.startAPI(t)
	await(t, "nothing wrong", func() bool { return strings.Contains(i.shell(t, `worker status`), "Nothing is wrong.") })

	for _, cmd := range []*exec.Cmd{i.worker, i.api} {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	i.shell(t, `DATABASE_URL="$ADMIN_URL" worker migrate down`)
	i.shell(t, `psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f ../../deploy/postgres/drop_logins.sql`)
	if i.holds(t, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname LIKE 'daybook%' OR rolname LIKE 'usage%')`) {
		t.Error("roles are left")
	}
}

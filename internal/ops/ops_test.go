//go:build ops

package ops

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestRulesAreRight(t *testing.T) {
	t.Parallel()
	rules, err := filepath.Glob("../../deploy/prometheus/*_test.yml")
	if err != nil || len(rules) == 0 {
		t.Fatalf("%q, %v", rules, err)
	}
	for _, args := range [][]string{
		{"check", "config", "../../deploy/prometheus/prometheus.yml"},
		{"check", "rules", rulesPath},
		append([]string{"test", "rules"}, rules...),
	} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

var alertName = regexp.MustCompile(`(?m)- alert: (\w+)$`)

// Every alert has tests of its firing and its silence, and an entry in the runbook.
func TestAlertsAreTestedAndExplained(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := ""
	files, err := filepath.Glob("../../deploy/prometheus/*_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(content)
	}
	for _, match := range alertName.FindAllStringSubmatch(shipped, -1) {
		name := match[1]
		if !strings.Contains(string(runbook), "# "+name+"\n") {
			t.Errorf("%s has no entry in the runbook", name)
		}
		if !strings.Contains(shipped, "runbook_url: docs/runbook.md#"+strings.ToLower(name)) {
			t.Errorf("%s does not name its entry", name)
		}
		firing := strings.Contains(tests, `alertname="`+name+`", alertstate="firing"`)
		if !firing || strings.Count(tests, `ALERTS{alertname="`+name+`"}`) < 2 {
			t.Errorf("%s is not tested firing and silent", name)
		}
	}
}

// Workers are killed, and the alert on lag fires; they come back, and it is resolved.
func TestLagAlertOfDeadWorkers(t *testing.T) {
	t.Parallel()
	_, hasty := shippedRules(t)
	i := install(t, hasty)
	await(t, "no alert", func() bool { return i.count("daybook_rollup_lag_seconds") == 1 && len(i.firing(t)) == 0 })
	if err := i.worker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	i.worker.Wait()
	i.change(t)
	await(t, "alerts", func() bool {
		firing := i.firing(t)
		return slices.Contains(firing, "DaybookLagHigh") && slices.Contains(firing, "DaybookNoWorker")
	})
	i.startWorker(t)
	await(t, "no alert on lag", func() bool {
		firing := i.firing(t)
		return !slices.Contains(firing, "DaybookLagHigh") && !slices.Contains(firing, "DaybookNoWorker")
	})
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
	if _, err := i.pool.Exec(t.Context(), `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`); err != nil {
		t.Fatal(err)
	}
	for _, query := range queries {
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

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// Every command of the runbook works as it is written.
func TestRunbook(t *testing.T) {
	t.Parallel()
	shipped, _ := shippedRules(t)
	i := install(t, shipped)
	runbook, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, block := range shellBlock.FindAllStringSubmatch(string(runbook), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") || seen[line] {
				continue
			}
			seen[line] = true
			cmd := exec.CommandContext(t.Context(), "sh", "-c",
				strings.NewReplacer("127.0.0.1:9464", i.apiMetrics, "127.0.0.1:9465", i.workerMetrics, "127.0.0.1:8080", i.apiAddr).Replace(line))
			cmd.Env = append(os.Environ(), "DATABASE_URL="+i.url, "PATH="+bin+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	if len(seen) < 5 {
		t.Errorf("%d commands", len(seen))
	}
}

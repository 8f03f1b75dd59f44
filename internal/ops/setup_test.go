//go:build ops

package ops

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/demo"
	"daybook/internal/localpg"
	"daybook/internal/testlog"
)

const (
	rulesPath = "../../deploy/prometheus/rules.yml"
	secret    = "a secret of the tests, 32 bytes or more"
	// patience is after how long a test gives up. It says nothing about how fast something is.
	patience = 5 * time.Minute
)

// installation is a host with Daybook as an operator has it, by the procedure of docs/deployment.md: a server with the logins that are described
// there, an api, a worker, a Prometheus that scrapes both, and an Alertmanager.
type installation struct {
	server *localpg.Server
	dir    string
	// super is the superuser, host the owner of the host's tables, who writes and migrates.
	super, host *pgxpool.Pool
	// The URLs of the logins. That of the worker has a parameter that psql does not know.
	ownerURL, workerURL, apiURL, adminURL string
	apiAddr, apiMetrics, workerMetrics    string
	api, worker                           *exec.Cmd
	prometheus                            string
	alertmanager                          *alertmanager
	// token is that of a user who may see the host's first workspace, acme.
	token string
}

// runbookURL is where the operators of the tests have their runbook.
const runbookURL = "https://wiki.example.org/runbook"

// install starts all of it. Rules are those that are shipped, or less patient ones.
func install(t *testing.T, rules string) *installation {
	t.Helper()
	i := newHost(t, "CREATEROLE")
	i.shell(t, `DATABASE_URL="$OWNER_URL" worker migrate up --roles`)
	i.shell(t, `WORKER_PASSWORD=worker API_PASSWORD=api psql "$OWNER_URL" -1 -v ON_ERROR_STOP=1 -f ../../deploy/postgres/logins.sql`)
	i.shell(t, `worker backfill --if-needed`)
	i.startWorker(t)
	i.startAPI(t)
	i.alertmanager = newAlertmanager(t)
	i.startPrometheus(t, rules)
	return i
}

// newHost starts a server with a host that has a role of its own with these rights, no superuser, and nothing of Daybook.
func newHost(t *testing.T, rights string) *installation {
	t.Helper()
	i := &installation{dir: serverDir(t), apiAddr: freeAddr(t), apiMetrics: freeAddr(t), workerMetrics: freeAddr(t)}
	i.startServer(t)
	all := connect(t, i.server.URL())
	for _, sql := range []string{
		`CREATE ROLE host_owner LOGIN ` + rights + ` PASSWORD 'owner'`,
		`CREATE DATABASE host OWNER host_owner`,
		`CREATE ROLE operator LOGIN REPLICATION PASSWORD 'operator' IN ROLE pg_monitor, pg_signal_backend`,
	} {
		execute(t, all, sql)
	}
	config := all.Config()
	config.ConnConfig.Database = "host"
	super, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(super.Close)
	i.super = super
	i.ownerURL, i.adminURL = i.loginURL(t, "host_owner", "owner"), i.loginURL(t, "operator", "operator")
	i.workerURL = i.loginURL(t, "usage_worker", "worker") + "&pool_max_conns=20"
	i.apiURL = i.loginURL(t, "usage_api", "api") + "&pool_max_conns=12"
	i.host = connect(t, i.ownerURL)
	if err := demo.CreateHost(t.Context(), i.host); err != nil {
		t.Fatal(err)
	}
	if err := demo.Fill(t.Context(), i.host, demo.Size{Tasks: 500, Days: 5}); err != nil {
		t.Fatal(err)
	}
	described, err := demo.Describe(t.Context(), i.host)
	if err != nil {
		t.Fatal(err)
	}
	i.token = strings.TrimSpace(i.shell(t, `JWT_SECRET='`+secret+`' api token --user `+described.Owner))
	return i
}

// startServer starts the server, or starts it again.
func (i *installation) startServer(t *testing.T) {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Config{Dir: i.dir, Settings: map[string]string{"max_prepared_transactions": "5", "fsync": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	i.server = server
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// loginURL is the URL of a role and the host's database.
func (i *installation) loginURL(t *testing.T, role, password string) string {
	t.Helper()
	u, err := url.Parse(i.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.Path = url.UserPassword(role, password), "/host"
	return u.String()
}

func (i *installation) startWorker(t *testing.T) {
	t.Helper()
	i.worker = start(t, []string{"DATABASE_URL=" + i.workerURL, "DAYBOOK_WORKER_METRICS_ADDR=" + i.workerMetrics}, "../../bin/worker", "run", "--verify-period=1m")
}

func (i *installation) startAPI(t *testing.T) {
	t.Helper()
	i.api = start(t, []string{"DATABASE_URL=" + i.apiURL, "JWT_SECRET=" + secret, "DAYBOOK_API_ADDR=" + i.apiAddr, "DAYBOOK_API_METRICS_ADDR=" + i.apiMetrics},
		"../../bin/api")
	await(t, "the api", func() bool { return i.status(t, "http://"+i.apiAddr+"/readyz") == http.StatusOK })
}

// shell runs a command as an operator does, with the variables of the runbook, and returns what it prints.
func (i *installation) shell(t *testing.T, command string) string {
	t.Helper()
	out, err := i.try(t, "", command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// try runs a command in a folder.
func (i *installation) try(t *testing.T, dir, command string) (string, error) {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.NewReplacer("127.0.0.1:9464", i.apiMetrics, "127.0.0.1:9465", i.workerMetrics,
		"127.0.0.1:8080", i.apiAddr, "http://127.0.0.1:9090", i.prometheus).Replace(command))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"DATABASE_URL="+i.workerURL, "API_URL="+i.apiURL, "OWNER_URL="+i.ownerURL, "ADMIN_URL="+i.adminURL)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func execute(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// serverDir is a folder that the server's account can reach.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "daybook-ops-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // A temporary folder.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// alertmanager is told of alerts by a Prometheus.
type alertmanager struct {
	addr string
	mu   sync.Mutex
	// links are the runbook entries that the notifications named, by alert.
	links map[string]string
}

func newAlertmanager(t *testing.T) *alertmanager {
	t.Helper()
	a := &alertmanager{links: make(map[string]string)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var alerts []struct{ Labels, Annotations map[string]string }
		if err := json.NewDecoder(r.Body).Decode(&alerts); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, alert := range alerts {
			a.links[alert.Labels["alertname"]] = alert.Annotations["runbook_url"]
		}
	}))
	t.Cleanup(server.Close)
	a.addr = strings.TrimPrefix(server.URL, "http://")
	return a
}

// link is where the notifications of an alert said that its entry is, "" if there was none.
func (a *alertmanager) link(alert string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.links[alert]
}

// startPrometheus starts one with the shipped configuration, but for the addresses and the intervals.
func (i *installation) startPrometheus(t *testing.T, rules string) {
	t.Helper()
	dir := t.TempDir()
	config, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	runbook, err := os.ReadFile("../../deploy/prometheus/runbook.yml")
	if err != nil {
		t.Fatal(err)
	}
	written := strings.NewReplacer("127.0.0.1:9464", i.apiMetrics, "127.0.0.1:9465", i.workerMetrics, "127.0.0.1:9093", i.alertmanager.addr, "15s", "1s").
		Replace(string(config))
	where := strings.Replace(string(runbook), "https://wiki.example.com/daybook/runbook", runbookURL, 1)
	for name, content := range map[string]string{"prometheus.yml": written, "rules.yml": strings.ReplaceAll(rules, "interval: 1m", "interval: 1s"), "runbook.yml": where} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddr(t)
	start(t, nil, "prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--log.level=warn")
	i.prometheus = "http://" + addr
	await(t, "both targets", func() bool { return i.count(`up == 1`) == 2 })
}

// ask asks Prometheus's HTTP API, and decodes the data of the answer.
func (i *installation) ask(path string, data any) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, i.prometheus+"/api/v1/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct{ Data any }{data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// count returns how many series a query has, or -1 if it cannot be asked.
func (i *installation) count(query string) int {
	var data struct{ Result []json.RawMessage }
	if err := i.ask("query?query="+url.QueryEscape(query), &data); err != nil {
		return -1
	}
	return len(data.Result)
}

// firing lists the alerts that fire.
func (i *installation) firing(t *testing.T) []string {
	t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	if err := i.ask("alerts", &data); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	return names
}

// start starts a program that ends with the test.
func start(t *testing.T, env []string, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	output := new(testlog.Buffer)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s: %s", program, output)
		}
	})
	return cmd
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// change makes the host write, so that there is something to count.
func (i *installation) change(t *testing.T) {
	t.Helper()
	execute(t, i.host, `UPDATE public.task_usage SET input_tokens = input_tokens + 1`)
}

// read asks the api for usage as a member of the workspace.
func (i *installation) read(t *testing.T) {
	t.Helper()
	if code := i.status(t, "http://"+i.apiAddr+"/api/usage/daily?workspace_slug=acme"); code != http.StatusOK {
		t.Fatalf("a read was answered with %d", code)
	}
}

// status asks with the token, and returns the status of the answer, or 0 if there is none.
func (i *installation) status(t *testing.T, url string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+i.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

var (
	waiting = regexp.MustCompile(`(?m)^( +)for: \w+$`)
	minutes = regexp.MustCompile(`\[1m\]`)
)

// shippedRules returns the rules, and in less patient ones alerts need not hold for minutes.
func shippedRules(t *testing.T) (shipped, hasty string) {
	t.Helper()
	content, err := os.ReadFile(rulesPath)
	if err != nil {
		t.Fatal(err)
	}
	hasty = waiting.ReplaceAllString(string(content), "${1}for: 1s")
	return string(content), minutes.ReplaceAllString(hasty, "[5s]")
}

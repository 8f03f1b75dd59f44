//go:build ops

package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/url"

	"net"
	"net/http"
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
	"daybook/migrations"
	"daybook/rollup"
)

const (
	rulesPath = "../../deploy/prometheus/rules.yml"
	secret    = "a secret of the tests, 32 bytes or more"
	// patience is after how long a test gives up. It says nothing about how fast something is.
	patience = 5 * time.Minute
)

// lockedBuffer may be written to by several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// installation is a host with Daybook as an operator has it: a server, an api, a worker, and a Prometheus that scrapes both.
type installation struct {
	pool                               *pgxpool.Pool
	url                                string
	apiAddr, apiMetrics, workerMetrics string
	worker                             *exec.Cmd
	prometheus                         string
}

// install starts all of it. Rules are those that are shipped, with shorter times where short is set.
func install(t *testing.T, rules string) *installation {
	t.Helper()
	server, err := localpg.Start(t.Context(), localpg.Config{Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if err := demo.CreateHost(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Up(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: 500, Days: 5}); err != nil {
		t.Fatal(err)
	}
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
	i := &installation{
		pool: pool, url: server.URL(), apiAddr: freeAddr(t), apiMetrics: freeAddr(t), workerMetrics: freeAddr(t),
	}
	start(t, []string{"DATABASE_URL=" + i.url, "JWT_SECRET=" + secret, "DAYBOOK_API_ADDR=" + i.apiAddr, "DAYBOOK_API_METRICS_ADDR=" + i.apiMetrics},
		"../../bin/api")
	i.startWorker(t)
	i.startPrometheus(t, rules)
	return i
}

func (i *installation) startWorker(t *testing.T) {
	t.Helper()
	i.worker = start(t, []string{"DATABASE_URL=" + i.url, "DAYBOOK_WORKER_METRICS_ADDR=" + i.workerMetrics}, "../../bin/worker", "run", "--verify-period=1m")
}

// startPrometheus starts one with the shipped configuration, but for the addresses and the intervals.
func (i *installation) startPrometheus(t *testing.T, rules string) {
	t.Helper()
	dir := t.TempDir()
	config, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	written := strings.NewReplacer("127.0.0.1:9464", i.apiMetrics, "127.0.0.1:9465", i.workerMetrics, "15s", "1s").Replace(string(config))
	for name, content := range map[string]string{"prometheus.yml": written, "rules.yml": rules} {
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
	output := new(lockedBuffer)
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
	if _, err := i.pool.Exec(t.Context(), `UPDATE public.task_usage SET input_tokens = input_tokens + 1`); err != nil {
		t.Fatal(err)
	}
}

// read asks the api for something, so that it has requests to count.
func (i *installation) read(t *testing.T) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+i.apiAddr+"/api/runtimes", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
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

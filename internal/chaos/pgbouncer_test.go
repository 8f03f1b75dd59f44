//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"daybook/internal/demo"
	"daybook/internal/history"
	"daybook/internal/localpg"
)

// poolSize is the number of PgBouncer's connections to Postgres. It is less than what one worker would use.
const poolSize = 6

// bouncer is a PgBouncer in transaction mode before the server of a pool.
type bouncer struct {
	url     string
	program string
	dir     string
	account *syscall.Credential // nil for ours
	process *os.Process
	done    chan struct{}
}

func newBouncer(t *testing.T, pool *pgxpool.Pool) *bouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // On Debian the PATH of users leaves it out.
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatal("this needs PgBouncer: apt-get install pgbouncer, or leave it out with -skip TestPgBouncer")
	}
	b := &bouncer{program: program, dir: serverDir(t), account: unprivileged(t)}
	server := pool.Config().ConnConfig
	address := freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ini := fmt.Sprintf(`[databases]
* = host=%s port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = 200
`, server.Host, server.Port, port, filepath.Join(b.dir, "users"), poolSize)
	for name, content := range map[string]string{"ini": ini, "users": fmt.Sprintf("%q %q\n", server.User, server.Password)} {
		path := filepath.Join(b.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b.account != nil {
			if err := os.Chown(path, int(b.account.Uid), int(b.account.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	u, err := url.Parse(urlOf(t, pool))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = address
	b.url = u.String()
	t.Cleanup(func() {
		b.kill()
		if log, err := os.ReadFile(filepath.Join(b.dir, "log")); err == nil && t.Failed() {
			t.Logf("PgBouncer:\n%s", log[max(0, len(log)-5000):])
		}
	})
	b.start(t)
	return b
}

// unprivileged is the account for programs that refuse to run as root, or nil if we are not root.
func unprivileged(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("we are root, and there is no user postgres or nobody")
	return nil
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start returns once PgBouncer takes connections.
func (b *bouncer) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(b.program, filepath.Join(b.dir, "ini"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.account, Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		defer log.Close()
		runtime.LockOSThread() // The signal is sent when the thread ends that started the process.
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	b.process, b.done = cmd.Process, done
	pool := connect(t, b.url)
	await(t, "PgBouncer", func() (bool, error) {
		select {
		case <-done:
			return false, fmt.Errorf("it ended: %s", cmd.ProcessState)
		default:
			_, err := pool.Exec(t.Context(), `SELECT`)
			return err == nil, nil
		}
	})
	pool.Close()
}

func (b *bouncer) kill() {
	if b.process != nil {
		_ = b.process.Kill()
		<-b.done
	}
}

// api is a process of the built api that allows writes, and a user of it.
type api struct {
	worker
	url, token string
}

func startAPI(t *testing.T, databaseURL, user string) *api {
	t.Helper()
	address := freeAddress(t)
	a := &api{url: "http://" + address}
	a.program, a.args = *apiPath, []string{"serve"}
	a.env = append(os.Environ(), "JWT_SECRET=no secret at all, and long enough for one", "DATABASE_URL="+databaseURL,
		"DAYBOOK_API_ADDR="+address, "DAYBOOK_API_METRICS_ADDR=127.0.0.1:0",
		"DAYBOOK_API_ALLOW_WRITES=true", "DAYBOOK_API_WRITE_DATABASE_URL="+databaseURL)
	token := exec.CommandContext(t.Context(), *apiPath, "token", "--user", user)
	token.Env = a.env
	said, err := token.Output()
	if err != nil {
		t.Fatalf("api token: %v", err)
	}
	a.token = strings.TrimSpace(string(said))
	a.begin(t)
	a.awaitAnswer(t, "/readyz")
	return a
}

// ask returns the status of an answer.
func (a *api) ask(ctx context.Context, method, path, body string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

// awaitAnswer polls until the api answers with 200.
func (a *api) awaitAnswer(t *testing.T, path string) time.Duration {
	t.Helper()
	return await(t, path, func() (bool, error) {
		if a.ended() {
			return false, fmt.Errorf("the api ended")
		}
		status, err := a.ask(t.Context(), http.MethodGet, path, "")
		return err == nil && status == http.StatusOK, nil
	})
}

// complaints are the lines of the logs that tell of something wrong.
func complaints(patterns []string, workers ...*worker) (found []string) {
	for _, w := range workers {
		for l := range strings.Lines(w.output.all()) {
			for _, pattern := range patterns {
				if strings.Contains(l, pattern) {
					found = append(found, strings.TrimSpace(l))
				}
			}
		}
	}
	return found
}

// TestPgBouncer puts everything behind PgBouncer in transaction mode, from the first migration on, and kills it.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	const name = "behind PgBouncer in transaction mode, which is killed and started again"
	server := startServer(t, localpg.Config{Ephemeral: true})
	pool := connect(t, server.URL())
	if err := demo.CreateHost(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if err := demo.Fill(t.Context(), pool, demo.Size{Tasks: byLength(20_000, 1200)}); err != nil {
		t.Fatal(err)
	}
	b := newBouncer(t, pool)
	var all []*worker
	command := func(args ...string) {
		t.Helper()
		w := startWorker(t, b.url, args...)
		all = append(all, w)
		if code := w.wait(); code != 0 {
			t.Fatalf("worker %q exited with %d:\n%s", args, code, w.output.String())
		}
	}
	command("migrate", "up")
	command("backfill")
	workers := []*worker{startWorker(t, b.url, "run"), startWorker(t, b.url, "run")}
	user := query[string](t, pool, `SELECT id::text FROM public."user" WHERE email = 'owner@demo.test'`)
	runtimeID := query[string](t, pool, `SELECT id::text FROM public.agent_runtime WHERE name = 'central-1'`)
	a := startAPI(t, b.url, user)
	all = append(all, append(workers, &a.worker)...)
	for _, w := range workers {
		await(t, "a worker's start", func() (bool, error) { return w.started(), nil })
		if !strings.Contains(w.output.all(), "connection_pooler=true") {
			t.Error("a worker has not found out that there is a pooler")
		}
	}

	// A history, and readers meanwhile.
	watch := watchLag(t, pool)
	begin := time.Now()
	playing, played := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(t.Context())
	group.Go(func() error {
		defer played()
		for n := uint64(0); time.Since(begin) < byLength(20*time.Second, 4*time.Second); n++ {
			if err := history.Play(ctx, pool, history.Config{Seed: n, Transactions: 25, KeepOthers: true}); err != nil {
				return err
			}
		}
		return nil
	})
	usage := "/api/runtimes/" + runtimeID + "/usage"
	answers := 0
	group.Go(func() error {
		for playing.Err() == nil {
			for _, path := range []string{usage, usage + "/by-hour", usage + "/by-agent", "/api/runtimes/" + runtimeID + "/activity"} {
				if status, err := a.ask(ctx, http.MethodGet, path, ""); err != nil || status != http.StatusOK {
					return fmt.Errorf("GET %s: %d, %w", path, status, err)
				}
				answers++
			}
			passes(ctx, 10*time.Millisecond)
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	awaitSettled(t, pool)
	largest, _ := watch.ends(time.Now())
	noteTime(t, name, fmt.Sprintf("largest lag during a history, beside %d answers of the api, all 200", answers), largest, fresh)
	command("verify")
	command("status")
	command("rebuild", "--all")
	awaitSettled(t, pool)
	status, err := a.ask(t.Context(), http.MethodPatch, "/api/runtimes/"+runtimeID, `{"timezone": "Asia/Kathmandu"}`)
	if err != nil || status != http.StatusOK {
		t.Fatalf("PATCH: %d, %v", status, err)
	}
	awaitQuery(t, pool, `SELECT timezone = 'Asia/Kathmandu' FROM daybook.runtime_rollup WHERE runtime_id = $1`, runtimeID)
	requireExact(t, pool)
	if found := complaints([]string{"level=ERROR"}, all...); len(found) > 0 {
		t.Errorf("%d errors before PgBouncer was killed, the first: %s", len(found), found[0])
	}

	load := startLoad(t, pool, 300)
	watch = watchLag(t, pool)
	passes(t.Context(), 2*time.Second)
	b.kill()
	passes(t.Context(), byLength(20*time.Second, 4*time.Second))
	b.start(t)
	healed := time.Now()
	answered := a.awaitAnswer(t, usage)
	passes(t.Context(), 5*time.Second)
	written := load.stopClean(t)
	awaitSettled(t, pool)
	_, recovered := watch.ends(healed)
	note(t, name, "writes of the host, who goes past it", fmt.Sprint(written), "")
	noteTime(t, name, "lag under 3 s after it was back", recovered, recovery)
	noteTime(t, name, "the api answered after it was back", answered, recovery)
	requireExact(t, pool)
	command("verify")
	if found := complaints([]string{"prepared statement"}, all...); len(found) > 0 {
		t.Errorf("%d lines about prepared statements, the first: %s", len(found), found[0])
	}
	retire(t, workers...)
	if code, _ := a.terminate(); code != 0 {
		t.Errorf("after SIGTERM the api exited with %d", code)
	}
}

package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// native runs the server from binaries on this machine.
type native struct {
	folder  *folder
	cfg     Config
	bin     installation
	account *account
}

func newNative(f *folder, cfg Config, bin installation) (*native, error) {
	who, err := serverAccount(f.path("data"))
	if err != nil {
		return nil, err
	}
	if err := who.reaches(f.dir); err != nil {
		return nil, err
	}
	return &native{folder: f, cfg: cfg, bin: bin, account: who}, nil
}

func (n *native) prepare(ctx context.Context, output *os.File) error {
	data := n.folder.path("data")
	if _, err := os.Stat(data); err == nil {
		return stopLeftover(ctx, data, n.cfg.Log)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	if n.cfg.StandbyOf != "" {
		return n.copyPrimary(ctx, output)
	}
	n.cfg.Log.Info("create a Postgres cluster", "dir", n.folder.dir, "version", n.bin.major)
	if _, err := n.folder.password(); err != nil {
		return err
	}
	if err := n.account.own(n.folder.path("password")); err != nil {
		return err
	}
	// Not every C library has the first one.
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} {
		if err = n.initdb(ctx, output, locale); err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (n *native) initdb(ctx context.Context, output *os.File, locale string) error {
	return n.fill(ctx, output, n.bin.initdb,
		"--username="+superuser,
		"--pwfile="+n.folder.path("password"),
		"--auth=scram-sha-256",
		"--encoding=UTF8",
		"--locale="+locale,
	)
}

// copyPrimary makes the data folder of a standby.
func (n *native) copyPrimary(ctx context.Context, output *os.File) error {
	primary, err := url.Parse(n.cfg.StandbyOf)
	if err != nil || primary.User == nil {
		return errors.New("StandbyOf must be a URL with a user")
	}
	password, _ := primary.User.Password()
	if err := n.folder.setPassword(password); err != nil {
		return err
	}
	n.cfg.Log.Info("create a standby", "dir", n.folder.dir, "primary", primary.Host)
	// The programs on PATH can be links to where the whole installation is.
	initdb, err := filepath.EvalSymlinks(n.bin.initdb)
	if err != nil {
		return err
	}
	return n.fill(ctx, output, filepath.Join(filepath.Dir(initdb), "pg_basebackup"),
		"--dbname="+n.cfg.StandbyOf, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast")
}

// fill has a program make the data folder under another name and renames it at the end: a data folder is whole or absent.
func (n *native) fill(ctx context.Context, output *os.File, program string, args ...string) error {
	unfinished := n.folder.path("data.unfinished")
	if err := os.RemoveAll(unfinished); err != nil {
		return err
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return err
	}
	if err := n.account.own(unfinished); err != nil {
		return err
	}
	cmd := n.exec(program, append(args, "--pgdata="+unfinished)...)
	if n.cfg.Ephemeral {
		cmd.Args = append(cmd.Args, "--no-sync")
	}
	cmd.Stdout, cmd.Stderr = output, output
	if err := run(ctx, cmd); err != nil {
		return fmt.Errorf("create cluster: %w; end of the log:\n%s", err, n.folder.logTail())
	}
	return os.Rename(unfinished, n.folder.path("data"))
}

func (n *native) command(port int) *exec.Cmd {
	all := settings(n.cfg, sharedMemory())
	all["listen_addresses"] = "127.0.0.1"
	all["port"] = strconv.Itoa(port)
	// A socket would need a path of at most 107 bytes, and a checkout can be deeper than that.
	all["unix_socket_directories"] = ""

	cmd := n.exec(n.bin.postgres, "-D", n.folder.path("data"))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		cmd.Args = append(cmd.Args, "-c", name+"="+all[name])
	}
	return cmd
}

func (n *native) cleanup(context.Context) error { return nil }

// exec is a command of the server's account, in an environment that does not change what the server does: no PG
// variables, and no locale that may be missing here.
func (n *native) exec(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	// The account may not enter our working folder.
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	if libraries, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+libraries)
	}
	n.account.use(cmd)
	return cmd
}

// stopLeftover stops the server of the data folder if it still runs. We hold the lock of the cluster, so the process
// that started it is gone.
func stopLeftover(ctx context.Context, data string, log *slog.Logger) error {
	pid := leftover(data)
	if pid == 0 {
		return nil
	}
	log.Warn("a Postgres of a run that was killed is still there; stopping it", "pid", pid, "data", data)
	for _, step := range []struct {
		signal syscall.Signal
		bound  time.Duration
	}{
		{syscall.SIGINT, fastStop},
		{syscall.SIGQUIT, immediateStop},
	} {
		if err := syscall.Kill(pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop Postgres of a killed run, process %d: %w", pid, err)
		}
		if gone, err := awaitEnd(ctx, pid, data, step.bound); gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the Postgres of a killed run, process %d, does not end", pid)
}

// awaitEnd polls, because the process is not our child.
func awaitEnd(ctx context.Context, pid int, data string, bound time.Duration) (gone bool, err error) {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	timeout := time.After(bound)
	for isServerOf(pid, data) {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timeout:
			return false, nil
		case <-poll.C:
		}
	}
	return true, nil
}

// leftover is the process id of the server that runs in the data folder, or 0.
func leftover(data string) int {
	b, err := os.ReadFile(data + "/postmaster.pid")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 || !isServerOf(pid, data) {
		return 0
	}
	return pid
}

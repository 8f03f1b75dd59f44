//go:build chaos

package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"daybook/internal/demo"
	"daybook/internal/localpg"
)

// TestDiskFull fills the disk under Postgres while the host writes and workers drain, and frees it. Postgres refuses writes, or
// ends when it cannot write its log; then it is started again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const name = "disk of Postgres full"
	if os.Geteuid() != 0 {
		if testing.Short() {
			note(t, name, "not run: needs root", "", "")
			return
		}
		t.Fatal("a disk of limited size needs root: run as root, or leave it out with -skip TestDiskFull")
	}
	dir := serverDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400m,mode=711", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	config := localpg.Config{Dir: dir, Settings: map[string]string{
		"max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "32MB",
	}}
	server := startServer(t, config)
	pool := install(t, server)
	fill(t, pool, demo.Size{Tasks: 1200})
	workers := []*worker{startWorker(t, urlOf(t, pool)), startWorker(t, urlOf(t, pool))}
	load := startLoad(t, pool, 500)
	watch := watchLag(t, pool)
	passes(t.Context(), 2*time.Second)

	ballast := filepath.Join(dir, "ballast")
	fillDisk(t, ballast)
	await(t, "a write that fails", func() (bool, error) { return load.failed.Load() > 0, nil })
	passes(t.Context(), 5*time.Second)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	pid := postmaster(t, dir)
	gone := pid == 0 || syscall.Kill(pid, 0) != nil
	if gone {
		if err := server.Stop(); err != nil {
			t.Fatal(err)
		}
		startServer(t, config)
	}
	await(t, "a server that takes writes", func() (bool, error) {
		_, err := pool.Exec(t.Context(), `UPDATE public.workspace SET slug = slug`)
		return err == nil, nil
	})
	healed := time.Now()
	passes(t.Context(), 5*time.Second)
	written, failed := load.stop()
	awaitSettled(t, pool)
	_, recovered := watch.ends(healed)
	note(t, name, "under load", fmt.Sprintf("%d writes, %d refused meanwhile; the server ended: %t", written, failed, gone), "")
	noteTime(t, name, "lag under 3 s after the server took writes again", recovered, recovery)
	requireExact(t, pool)
	retire(t, workers...)
}

// fillDisk leaves nothing free.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 16 {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); err != nil {
				break // That is what it is for.
			}
		}
	}
}

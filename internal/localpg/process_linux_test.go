package localpg

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestStart_NotAsRoot(t *testing.T) {
	t.Parallel()
	needBinaries(t)
	s := start(t, Config{Ephemeral: true})
	pid := s.process.cmd.Process.Pid
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the server runs as root")
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the server is in process group %d, %v", group, err)
	}
	if !isServerOf(pid, s.folder.path("data")) {
		t.Error("isServerOf does not know the server")
	}
}

const killedDir = "LOCALPG_TEST_KILLED_DIR"

// TestKilledParent starts itself as another process, which starts a cluster and is killed.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(killedDir); dir != "" {
		s, err := Start(t.Context(), Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("pid", s.process.cmd.Process.Pid)
		time.Sleep(time.Minute)
		return
	}
	needBinaries(t)
	dir := clusterDir(t)
	parent := exec.Command(os.Args[0], "-test.run=^TestKilledParent$")
	parent.Env = append(os.Environ(), killedDir+"="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			if pid, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if pid == 0 {
		t.Fatal("the other process started no cluster")
	}
	waitGone(t, pid, filepath.Join(dir, "data"))

	// The folder is good for the next.
	start(t, Config{Dir: dir})
}

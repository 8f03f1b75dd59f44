package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The api has the setting for Go's runtime in its environment, and is the process that was started.
func TestMonitorStaysAwake(t *testing.T) {
	t.Parallel()
	command, _, _ := startProcess(t, "postgres://u@127.0.0.1:1/d")
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(command.Process.Pid), "environ"))
	if err != nil || !strings.Contains(string(env), "schedtrace=") {
		t.Errorf("schedtrace is not in the environment: %v", err)
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
}

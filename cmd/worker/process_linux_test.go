package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"daybook/internal/testdb"
)

// A worker has the setting for Go's runtime in its environment, and is the process that was started.
func TestMonitorStaysAwake(t *testing.T) {
	t.Parallel()
	p := startWorker(t, testdb.New(t))
	await(t, "schedtrace in the environment of the process", func() (bool, error) {
		env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Process.Pid), "environ"))
		return strings.Contains(string(env), "schedtrace="), err
	})
}

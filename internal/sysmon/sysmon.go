// Package sysmon sets how the thread that monitors goroutines and system calls in Go's runtime waits: see
// docs/decisions/0025-the-monitor-of-go.md.
package sysmon

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
)

// setting makes the runtime trace its scheduler, each 25 days, which is as seldom as can be: the monitor then naps for 10 ms at most, and nobody has to
// wake it. It also leaves out samples of what is allocated, which nothing shows.
const setting = "schedtrace=2147483647,memprofilerate=0"

// StayAwake starts the program again with the setting, in the same process, for only the environment of a process can say it. It returns in the program
// that has it; where GODEBUG has schedtrace already; where a process cannot be started so, as on Windows; where a secret comes through a pipe, which can
// be read only once; in one that was not started with these arguments, as a test is not; and once ctx is done.
func StayAwake(ctx context.Context, args []string) {
	given, env := os.Getenv("GODEBUG"), os.Environ()
	if strings.Contains(given, "schedtrace=") || slices.ContainsFunc(env, namesPipe) ||
		!slices.Equal(os.Args[1:], args) || ctx.Err() != nil {
		return
	}
	path, err := os.Executable()
	if err != nil {
		return
	}
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "GODEBUG=") })
	// What comes later wins.
	syscall.Exec(path, os.Args, append(env, strings.TrimSuffix("GODEBUG="+setting+","+given, ","))) //nolint:errcheck,gosec // It is the same program. Where that fails it goes on as it is.
}

// namesPipe tells whether a variable of the environment is the name of something with a secret that is no regular file.
func namesPipe(variable string) bool {
	name, value, _ := strings.Cut(variable, "=")
	if !strings.HasSuffix(name, "_FILE") {
		return false
	}
	info, err := os.Stat(value)
	return err == nil && !info.Mode().IsRegular()
}

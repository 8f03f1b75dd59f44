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

// setting makes the runtime trace its scheduler, each 25 days, which is as seldom as can be. The monitor then naps for 10 ms at most, and
// nobody has to wake it.
const setting = "schedtrace=2147483647"

// StayAwake starts the program again with the setting, in the same process, for only the environment of a process can say it. It returns in the program
// that has it; where GODEBUG has schedtrace already; where a process cannot be started so, as on Windows; and in one that was not started with these
// arguments, as a test is not. Ctx is that of a program that is not to stop yet.
func StayAwake(ctx context.Context, args []string) {
	given := os.Getenv("GODEBUG")
	if strings.Contains(given, "schedtrace=") || !slices.Equal(os.Args[1:], args) || ctx.Err() != nil {
		return
	}
	path, err := os.Executable()
	if err != nil {
		return
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GODEBUG=") })
	if given != "" {
		given += ","
	}
	syscall.Exec(path, os.Args, append(env, "GODEBUG="+given+setting)) //nolint:errcheck,gosec // It is the same program. Where that fails it goes on as it is.
}

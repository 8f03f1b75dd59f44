// Package machine tells what the machine has that a process may use.
package machine

import (
	"os"
	"strconv"
	"strings"
)

// Memory returns the bytes of memory that the machine has or, in a container that may use less, those; 0 where the system does not tell.
func Memory() int64 {
	total := memTotal("/proc/meminfo")
	if limit := cgroupLimit("/sys/fs/cgroup/memory.max"); limit > 0 && limit < total {
		return limit
	}
	return total
}

func memTotal(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	return KiB(text, "MemTotal") << 10
}

// KiB returns what the text of a file in /proc says in kB under the name, as in "MemTotal: 5 kB"; 0 if it says nothing.
func KiB(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64) // 0 means unknown.
			return kib
		}
	}
	return 0
}

// cgroupLimit returns 0 if there is none.
func cgroupLimit(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil { // "max"
		return 0
	}
	return limit
}

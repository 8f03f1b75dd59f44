// Package machine tells what the machine has that a process may use.
package machine

import (
	"bufio"
	"fmt"
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
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close() //nolint:errcheck // It is only read.
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var kib int64
		if n, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); n == 1 && err == nil {
			return kib << 10
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

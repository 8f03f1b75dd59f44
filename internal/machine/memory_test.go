package machine

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name string
		got  int64
		want int64
	}{
		{"meminfo", memTotal(file("MemFree:  5 kB\nMemTotal:       24683696 kB\n")), 24683696 << 10},
		{"another system", memTotal(file("")), 0},
		{"no file", memTotal("/does/not/exist"), 0},
		{"a limit", cgroupLimit(file("1073741824\n")), 1 << 30},
		{"no limit", cgroupLimit(file("max\n")), 0},
		{"no cgroup", cgroupLimit("/does/not/exist"), 0},
	} {
		if test.got != test.want {
			t.Errorf("%s: %d, want %d", test.name, test.got, test.want)
		}
	}
}

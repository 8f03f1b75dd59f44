package main

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	got, err := parseStat([]byte("42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 9 0 100 1 2\n"))
	if want := (stat{42, 7, 2 * time.Second, 300 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, line := range []string{"", "42", "42 (a) S 7", "x (a) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 20 10 20 0 9 0"} {
		if _, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q: no error", line)
		}
	}
}

func TestParsePeak(t *testing.T) {
	t.Parallel()
	if got := parsePeak([]byte("Name:\tapi\nVmPeak:\t  900 kB\nVmHWM:\t   1234 kB\nVmRSS:\t 1000 kB\n")); got != 1234 {
		t.Errorf("got %d, want 1234", got)
	}
	if got := parsePeak([]byte("Name:\tapi\n")); got != 0 {
		t.Errorf("got %d, want 0", got)
	}
}

func TestOwnProcess(t *testing.T) {
	t.Parallel()
	s, err := readStat(os.Getpid())
	if errors.Is(err, errNoProc) {
		t.Skip("there is no /proc of Linux's")
	}
	if err != nil || s.pid != os.Getpid() || s.parent != os.Getppid() {
		t.Errorf("got %+v, %v", s, err)
	}
	var p peaks
	p.note("test", os.Getpid())
	if p.of("test") == 0 {
		t.Error("no memory")
	}
}

package logging_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"daybook/internal/logging"
)

// output is a writer that tells of each write.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	written chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.written <- struct{}{}
	return o.buf.Write(b)
}

func (o *output) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Split(strings.TrimSpace(o.buf.String()), "\n")
}

func newOutput() *output { return &output{written: make(chan struct{}, 1000)} }

func TestLinesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	out := newOutput()
	logger, _ := logging.Config{LogFormat: "text"}.NewBuffered(out)
	for range 100 {
		logger.Info("request")
	}
	<-out.written // By itself, after a while.
	if n := len(out.lines()); n != 100 {
		t.Errorf("%d lines are written, want 100", n)
	}
	if n := len(out.written); n != 0 {
		t.Errorf("there were %d writes more", n)
	}
}

func TestWarningsAreWrittenAtOnce(t *testing.T) {
	t.Parallel()
	out := newOutput()
	logger, flush := logging.Config{LogFormat: "json"}.NewBuffered(out)
	logger.With(slog.Int("n", 1)).Info("first")
	logger.WithGroup("g").Warn("second", slog.Int("n", 2))
	if lines := out.lines(); len(lines) != 2 || !strings.Contains(lines[0], `"first","n":1`) || !strings.Contains(lines[1], `"second","g":{"n":2}`) {
		t.Errorf("written is %q", lines)
	}
	logger.Info("third")
	flush()
	flush()
	if lines := out.lines(); len(lines) != 3 {
		t.Errorf("written is %q", lines)
	}
}

func TestManyLinesDoNotWait(t *testing.T) {
	t.Parallel()
	out := newOutput()
	logger, flush := logging.Config{}.NewBuffered(out)
	long := strings.Repeat("x", 1<<10)
	for range 70 {
		logger.Info("long", slog.String("text", long))
	}
	if len(out.lines()) < 60 {
		t.Errorf("%d lines are written", len(out.lines()))
	}
	flush()
	if n := len(out.lines()); n != 70 {
		t.Errorf("%d lines are written, want 70", n)
	}
}

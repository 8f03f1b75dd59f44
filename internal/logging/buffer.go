package logging

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxDelay is how long a line may wait for others, to be written together with them.
	maxDelay = 100 * time.Millisecond
	// maxBuffered is how many bytes wait at most.
	maxBuffered = 64 << 10
)

// NewBuffered is New for a program that writes many lines: to write each by itself costs more than all else that a short request needs. Lines
// wait for 100 ms at most; a warning or an error is written at once, with all that came before it. Flush writes what waits, and must be called at the
// end.
func (c Config) NewBuffered(w io.Writer) (logger *slog.Logger, flush func()) {
	b := &buffer{w: w}
	return slog.New(urgent{c.New(b).Handler(), b}), b.flush
}

// buffer collects lines. What cannot be written is lost, as it is without a buffer.
type buffer struct {
	mu    sync.Mutex
	w     io.Writer
	lines []byte
	timer *time.Timer // runs while lines wait
}

// Write takes whole lines.
func (b *buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines) == 0 {
		b.timer = time.AfterFunc(maxDelay, b.flush)
	}
	b.lines = append(b.lines, line...)
	if len(b.lines) >= maxBuffered {
		b.flushLocked()
	}
	return len(line), nil
}

func (b *buffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushLocked()
}

func (b *buffer) flushLocked() {
	if len(b.lines) == 0 {
		return
	}
	b.timer.Stop()
	b.w.Write(b.lines) //nolint:errcheck // There is nowhere to say so.
	b.lines = b.lines[:0]
}

// urgent flushes behind a warning.
type urgent struct {
	slog.Handler
	buffer *buffer
}

// Handle is called by slog.
func (u urgent) Handle(ctx context.Context, r slog.Record) error {
	err := u.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		u.buffer.flush()
	}
	return err
}

// WithAttrs is called by slog.
func (u urgent) WithAttrs(attrs []slog.Attr) slog.Handler {
	return urgent{u.Handler.WithAttrs(attrs), u.buffer}
}

// WithGroup is called by slog.
func (u urgent) WithGroup(name string) slog.Handler {
	return urgent{u.Handler.WithGroup(name), u.buffer}
}

package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// An output interleaves the lines of several writers, each after the name of its writer.
type output struct {
	mu sync.Mutex
	w  io.Writer
}

// nameWidth is that of the longest usual name.
const nameWidth = 8

func newOutput(w io.Writer) *output { return &output{w: w} }

// say prints a line of our own.
func (o *output) say(line string) { o.line("demo", []byte(line+"\n")) }

// print prints text as it is, in one piece.
func (o *output) print(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// There is nobody to tell when the terminal is gone.
	_, _ = io.WriteString(o.w, text)
}

func (o *output) line(name string, line []byte) {
	o.print(fmt.Sprintf("%-*s | %s", nameWidth, name, line))
}

func (o *output) prefixed(name string) *prefixWriter { return &prefixWriter{out: o, name: name} }

// logger is for packages that log.
func (o *output) logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(o.prefixed(name), &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// A prefixWriter passes whole lines on. What is left without an end of line waits for flush.
type prefixWriter struct {
	out  *output
	name string

	mu   sync.Mutex
	rest []byte
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		p.out.line(p.name, p.rest[:i+1])
		p.rest = p.rest[i+1:]
	}
}

func (p *prefixWriter) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rest) > 0 {
		p.out.line(p.name, append(p.rest, '\n'))
		p.rest = nil
	}
}

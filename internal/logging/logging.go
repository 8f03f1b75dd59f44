// Package logging makes the loggers of the commands, so that all of them write lines of the same form.
package logging

import (
	"io"
	"log/slog"
)

// Config is the flags of a command that say what it logs.
type Config struct {
	LogLevel  slog.Level `name:"log-level" env:"DAYBOOK_LOG_LEVEL" default:"info" help:"Least severe messages to log: debug, info, warn or error."`
	LogFormat string     `name:"log-format" env:"DAYBOOK_LOG_FORMAT" enum:"text,json" default:"text" help:"Form of log lines: ${enum}."`
}

// New returns a logger that writes to w.
func (c Config) New(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

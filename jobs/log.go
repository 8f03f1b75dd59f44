package jobs

import (
	"context"
	"log/slog"
)

// riverHandler passes on River's warnings and errors. Its information, the counts of jobs every few seconds, passes only where
// debug messages are wanted.
type riverHandler struct {
	slog.Handler
}

func (h riverHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.Handler.Enabled(ctx, level) && (level >= slog.LevelWarn || h.Handler.Enabled(ctx, slog.LevelDebug))
}

func (h riverHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return riverHandler{h.Handler.WithAttrs(attrs)}
}

func (h riverHandler) WithGroup(name string) slog.Handler {
	return riverHandler{h.Handler.WithGroup(name)}
}

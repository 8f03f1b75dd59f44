package jobs

import (
	"context"
	"fmt"
	"net/http"

	"riverqueue.com/riverui"
)

// UI returns River UI, which shows jobs and lets whoever reaches it cancel, retry and delete them, for paths that begin with prefix. It asks the
// database in the background until ctx is done. Pages of other sites cannot use it through a visitor's browser.
func (f *Fleet) UI(ctx context.Context, prefix string) (http.Handler, error) {
	handler, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(f.client, nil), Logger: f.config.Logger, Prefix: prefix,
	})
	if err != nil {
		return nil, fmt.Errorf("make river ui: %w", err)
	}
	if err := handler.Start(ctx); err != nil {
		return nil, fmt.Errorf("start river ui: %w", err)
	}
	return http.NewCrossOriginProtection().Handler(handler), nil
}

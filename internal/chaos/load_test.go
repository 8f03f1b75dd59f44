//go:build chaos

package chaos

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// upsertUsage is how a host writes usage.
const upsertUsage = `
	INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens) VALUES ($1, 'claude', 'chaos', $2, 1)
	ON CONFLICT (task_id, provider, model) DO UPDATE SET
		input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, updated_at = now()`

// load is a host that upserts usage at a rate until it is stopped.
type load struct {
	cancel          context.CancelFunc
	group           sync.WaitGroup
	written, failed atomic.Int64
	lastError       atomic.Pointer[error]
}

// startLoad begins to write perSecond rows a second, for tasks of all runtimes but those named. A write that fails, because the server is
// away, is counted and not tried again.
func startLoad(t *testing.T, pool *pgxpool.Pool, perSecond int, except ...string) *load {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT t.id FROM public.agent_task_queue t LEFT JOIN public.agent_runtime r ON r.id = t.runtime_id
		WHERE (r.name = ANY ($1)) IS NOT TRUE ORDER BY t.created_at DESC LIMIT 20000`, except)
	if err != nil {
		t.Fatal(err)
	}
	var tasks []pgtype.UUID
	for rows.Next() {
		var id pgtype.UUID
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, id)
	}
	if rows.Err() != nil || len(tasks) == 0 {
		t.Fatalf("%d tasks to write for: %v", len(tasks), rows.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel}
	const writers = 8
	start := time.Now()
	for w := range writers {
		l.group.Go(func() {
			for i := w; ; i += writers {
				at := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				if behind := time.Since(at); behind > 2*time.Second {
					continue // The server was away; a host does not make up for it.
				}
				passes(ctx, time.Until(at))
				if ctx.Err() != nil {
					return
				}
				// Not ctx: a write that has begun is finished, so that nobody wonders whether it counts.
				bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				_, err := pool.Exec(bounded, upsertUsage, tasks[i%len(tasks)], i)
				cancel()
				if err != nil {
					l.failed.Add(1)
					l.lastError.Store(&err)
					continue
				}
				l.written.Add(1)
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// stop returns the number of writes that went through, and of those that did not.
func (l *load) stop() (written, failed int64) {
	l.cancel()
	l.group.Wait()
	return l.written.Load(), l.failed.Load()
}

// stopClean fails the test if a write of the host failed.
func (l *load) stopClean(t *testing.T) int64 {
	t.Helper()
	written, failed := l.stop()
	if failed > 0 {
		t.Errorf("%d writes of the host failed, the last with %v", failed, *l.lastError.Load())
	}
	return written
}

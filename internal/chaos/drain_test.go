//go:build chaos

package chaos

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/rollup"
)

// drainBefore makes three runtimes and ten tasks of the shard that the child drains.
const drainBefore = `
	INSERT INTO public.workspace (id, slug) VALUES ('01000000-0000-0000-0000-000000000001', 'acme');
	INSERT INTO public.project (id, workspace_id) SELECT '02000000-0000-0000-0000-000000000001', id FROM public.workspace;
	INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone)
		SELECT ('03000000-0000-0000-0000-00000000000' || n)::uuid, w.id, 'r', 'p', (ARRAY['America/New_York', 'Asia/Kolkata', 'Asia/Tokyo'])[n]
		FROM public.workspace w, generate_series(1, 3) n;
	INSERT INTO public.agent (id, workspace_id, runtime_id)
		SELECT ('04000000-0000-0000-0000-00000000000' || n)::uuid, r.workspace_id, r.id
		FROM public.agent_runtime r, generate_series(1, 2) n WHERE r.id = ('03000000-0000-0000-0000-00000000000' || n)::uuid;
	INSERT INTO public.issue (id, workspace_id, project_id) SELECT '05000000-0000-0000-0000-000000000001', workspace_id, id FROM public.project;
	CREATE TABLE public.chaos_task AS
		SELECT id, row_number() OVER () AS n
		FROM (SELECT md5(n::text)::uuid AS id FROM generate_series(1, 3000) n) x WHERE daybook.shard_of(id) = 0 LIMIT 14;
	INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, issue_id, status, created_at, started_at, completed_at)
		SELECT c.id, ('04000000-0000-0000-0000-00000000000' || 1 + n % 2)::uuid, ('03000000-0000-0000-0000-00000000000' || 1 + n % 2)::uuid,
			CASE WHEN n % 3 > 0 THEN '05000000-0000-0000-0000-000000000001'::uuid END, 'completed',
			'2026-03-01 12:00Z', '2026-03-01 12:00Z', '2026-03-01 13:00Z'
		FROM public.chaos_task c WHERE n <= 10;
	INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
		SELECT id, 'p', m, 10 * n, '2026-03-07 20:00Z'::timestamptz + n * interval '7 hours'
		FROM public.chaos_task c, unnest(ARRAY['large', 'small']) m WHERE n <= 10`

// drainChanges has a change of each kind: tasks that are new, on a runtime that was never counted, moved, deleted, reopened, without
// usage, and two whose sum does not fit, so that one of them goes to quarantine.
const drainChanges = `
	UPDATE public.task_usage SET input_tokens = 1000 WHERE task_id = (SELECT id FROM public.chaos_task WHERE n = 1);
	UPDATE public.agent_task_queue SET runtime_id = '03000000-0000-0000-0000-000000000002' WHERE id = (SELECT id FROM public.chaos_task WHERE n = 2);
	DELETE FROM public.agent_task_queue WHERE id = (SELECT id FROM public.chaos_task WHERE n = 3);
	UPDATE public.agent_task_queue SET status = 'queued', started_at = NULL, completed_at = NULL WHERE id = (SELECT id FROM public.chaos_task WHERE n = 4);
	DELETE FROM public.task_usage WHERE task_id = (SELECT id FROM public.chaos_task WHERE n = 5);
	INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, status, started_at)
		SELECT id, '04000000-0000-0000-0000-000000000001', '03000000-0000-0000-0000-000000000003', 'running', '2026-03-09 01:00Z'
		FROM public.chaos_task WHERE n = 11;
	INSERT INTO public.task_usage (task_id, provider, model, input_tokens)
		SELECT id, 'p', 'large', 5 FROM public.chaos_task WHERE n = 11;
	UPDATE public.task_usage SET input_tokens = 9223372036854775807, created_at = '2026-05-05'
		WHERE model = 'large' AND task_id IN (SELECT id FROM public.chaos_task WHERE n IN (7, 9));`

// drainShards drains every shard once.
func drainShards(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for shard := range query[int](t, pool, `SELECT daybook.shard_count()`) {
		if _, err := rollup.Drain(t.Context(), pool, []int16{int16(shard)}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// drainAll does what workers would, in this process, until nothing is left. What a dead worker held is free within moments.
func drainAll(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	await(t, "an empty queue", func() (bool, error) {
		if _, err := rollup.ExpandScopes(t.Context(), pool); err != nil {
			return false, err
		}
		drainShards(t, pool)
		rows, err := pool.Query(t.Context(), `SELECT DISTINCT runtime_id FROM daybook.runtime_rebuild`)
		if err != nil {
			return false, err
		}
		runtimes, err := pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
		if err != nil {
			return false, err
		}
		for _, r := range runtimes {
			if _, err := rollup.Rebuild(t.Context(), pool, r); err != nil {
				return false, err
			}
		}
		pending, err := history.Pending(t.Context(), pool)
		return !pending, err
	})
}

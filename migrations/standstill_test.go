package migrations_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/rollup"
)

// standing begins transactions that neither commit nor roll back when they are told to: a worker that stands still after its
// last statement, when it holds all that it ever holds.
type standing struct {
	pool *pgxpool.Pool
	txs  []pgx.Tx
}

func (s *standing) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := s.pool.BeginTx(ctx, options)
	if err != nil {
		return nil, err
	}
	s.txs = append(s.txs, tx)
	return standingTx{tx}, nil
}

type standingTx struct{ pgx.Tx }

func (standingTx) Commit(context.Context) error   { return nil }
func (standingTx) Rollback(context.Context) error { return nil }

func TestWorkThatStandsStillBlocksNoHostWrite(t *testing.T) {
	t.Parallel()
	drain := func(t *testing.T, db rollup.DB, _ ids, shard int16) {
		t.Helper()
		result, err := rollup.Drain(t.Context(), db, []int16{shard}, nil)
		if err != nil || result.Entries == 0 {
			t.Fatalf("drain: %+v, %v", result, err)
		}
	}
	rebuild := func(t *testing.T, db rollup.DB, w ids, _ int16) {
		t.Helper()
		result, err := rollup.Rebuild(t.Context(), db, w["home"].(pgtype.UUID))
		if err != nil || result.Requests == 0 {
			t.Fatalf("rebuild: %+v, %v", result, err)
		}
	}
	expand := func(t *testing.T, db rollup.DB, _ ids, _ int16) {
		t.Helper()
		if n, err := rollup.ExpandScopes(t.Context(), db); err != nil || n == 0 {
			t.Fatalf("expand scopes: %d, %v", n, err)
		}
	}
	commit, rollback := pgx.Tx.Commit, pgx.Tx.Rollback
	for _, test := range []struct {
		name string
		work func(*testing.T, rollup.DB, ids, int16)
		end  func(pgx.Tx, context.Context) error
	}{
		{"drain, committed", drain, commit},
		{"drain, lost", drain, rollback},
		{"rebuild, committed", rebuild, commit},
		{"rebuild, lost", rebuild, rollback},
		{"scopes, committed", expand, commit},
		{"scopes, lost", expand, rollback},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, w := setup(t)
			requireCounted(t, pool)
			for _, sql := range []string{
				`UPDATE public.task_usage SET input_tokens = 40 WHERE task_id = @busy`,
				`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`,
				`UPDATE public.issue SET project_id = @blue WHERE id = @bug`,
			} {
				exec(t, pool, sql, w)
			}
			shard := scalar[int16](t, pool, `SELECT daybook.shard_of(@busy)`, w)
			held := &standing{pool: pool}
			test.work(t, held, w, shard)
			for _, tx := range held.txs {
				// The test may be slower than the server's patience with a transaction that stands still.
				exec(t, tx, `SET LOCAL idle_in_transaction_session_timeout = 0`)
			}

			host := impatient(t, pool)
			for _, sql := range []string{
				`INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@busy, 'p', 'm1', 50), (@busy, 'p', 'm3', 60)
					ON CONFLICT (task_id, provider, model) DO UPDATE SET input_tokens = excluded.input_tokens`,
				`UPDATE public.agent_runtime SET timezone = 'America/New_York' WHERE id = @home`,
				`UPDATE public.agent_runtime SET timezone = 'Europe/Lisbon' WHERE id = @home`,
				`UPDATE public.agent_task_queue SET status = 'completed', completed_at = started_at + interval '1 hour' WHERE id = @busy`,
				`UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @busy`,
				`UPDATE public.issue SET project_id = NULL WHERE id = @bug`,
				`UPDATE public.agent SET workspace_id = @other WHERE id = @ann`,
				`INSERT INTO public.agent_task_queue (agent_id, runtime_id, status, started_at) VALUES (@ann, @home, 'running', '2025-06-02 01:00Z')`,
				`DELETE FROM public.task_usage WHERE task_id = @busy AND model = 'm2'`,
				`DELETE FROM public.agent_task_queue WHERE id = @done`,
				`DELETE FROM public.agent_runtime WHERE id = @spare`,
			} {
				exec(t, host, sql, w)
			}

			for _, tx := range held.txs {
				if err := test.end(tx, t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			requireCounted(t, pool)
		})
	}
}

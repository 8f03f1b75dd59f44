package rollup_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/history"
	"daybook/internal/testdb"
	"daybook/rollup"
)

// Every way in which a host changes usage. Each step is drained and compared.
func TestChangesAreFollowed(t *testing.T) {
	t.Parallel()
	h := setup(t, "America/New_York")
	task := h.newTask()
	other := h.newRuntime("Asia/Kathmandu")
	otherProject := h.id(`INSERT INTO public.project (workspace_id) VALUES ($1) RETURNING id`, h.workspace)
	otherWorkspace := h.id(`INSERT INTO public.workspace (slug) VALUES ('globex') RETURNING id`)
	for _, step := range []struct {
		name string
		sql  string
		args []any
	}{
		{"usage", `INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'a', 'm', 5, '2025-05-01'), ($1, 'b', 'm', 7, '2025-05-02')`, []any{task}},
		{"overwrite", `UPDATE public.task_usage SET input_tokens = 50, output_tokens = 3 WHERE task_id = $1`, []any{task}},
		{"start", `UPDATE public.agent_task_queue SET status = 'running', started_at = '2025-05-01 10:00' WHERE id = $1`, []any{task}},
		{"complete", `UPDATE public.agent_task_queue SET status = 'completed', completed_at = '2025-05-01 10:00:01.000001' WHERE id = $1`, []any{task}},
		{"fail", `UPDATE public.agent_task_queue SET status = 'failed' WHERE id = $1`, []any{task}},
		{"cancel", `UPDATE public.agent_task_queue SET status = 'cancelled' WHERE id = $1`, []any{task}},
		{"move", `UPDATE public.agent_task_queue SET runtime_id = $2 WHERE id = $1`, []any{task, other}},
		{"lose the runtime", `UPDATE public.agent_task_queue SET runtime_id = NULL WHERE id = $1`, []any{task}},
		{"get it back", `UPDATE public.agent_task_queue SET runtime_id = $2 WHERE id = $1`, []any{task, other}},
		{"lose the issue", `UPDATE public.agent_task_queue SET issue_id = NULL WHERE id = $1`, []any{task}},
		{"get it back", `UPDATE public.agent_task_queue SET issue_id = $2 WHERE id = $1`, []any{task, h.issue}},
		{"issue moves", `UPDATE public.issue SET project_id = $1`, []any{otherProject}},
		{"project deleted", `DELETE FROM public.project WHERE id = $1`, []any{otherProject}},
		{"agent moves", `UPDATE public.agent SET workspace_id = $1`, []any{otherWorkspace}},
		{"zone changes", `UPDATE public.agent_runtime SET timezone = 'Africa/Cairo'`, nil},
		{"usage deleted", `DELETE FROM public.task_usage WHERE provider = 'a'`, nil},
		{"usage renamed", `UPDATE public.task_usage SET model = 'n', created_at = '2025-05-03'`, nil},
		{"truncated", `TRUNCATE public.task_usage`, nil},
		{"usage again", `INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'a', 'm', 5, '2025-05-01')`, []any{task}},
		{"runtime deleted", `DELETE FROM public.agent_runtime WHERE id = $1`, []any{other}},
		{"task again", `INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, started_at) VALUES ($1, $2, $3, '2025-05-01')`, []any{task, h.agent, h.runtime}},
		{"usage again", `INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at) VALUES ($1, 'a', 'm', 5, '2025-05-01')`, []any{task}},
		{"workspace deleted", `DELETE FROM public.workspace`, nil},
	} {
		h.exec(step.sql, step.args...)
		if r := h.settle(); r.Entries == 0 && step.name != "zone changes" {
			t.Errorf("%s: no entry was drained", step.name)
		}
		t.Log(step.name)
		testdb.RequireExact(t, h.pool)
	}
	for _, table := range []string{
		"task_fact", "task_usage_fact", "task_usage_daily", "task_usage_daily_by_agent", "task_usage_daily_by_hour",
		"task_activity_by_hour", "workspace_usage_daily", "workspace_usage_daily_by_agent", "workspace_run_time_daily",
	} {
		if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.`+table); n != 0 {
			t.Errorf("%s: %d rows are left of a host without tasks", table, n)
		}
	}
}

// A task that is being added while its issue moves: neither transaction sees the other.
func TestIssueMovesWhileATaskIsAdded(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	other := h.id(`INSERT INTO public.project (workspace_id) VALUES ($1) RETURNING id`, h.workspace)
	adding, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	moving, err := h.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	task := idOn(t, adding, `INSERT INTO public.agent_task_queue (agent_id, runtime_id, issue_id) VALUES ($1, $2, $3) RETURNING id`,
		h.agent, h.runtime, h.issue)
	idOn(t, adding, `INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES ($1, 'p', 'm', 1) RETURNING id`, task)
	idOn(t, moving, `UPDATE public.issue SET project_id = $1 RETURNING id`, other)
	if err := adding.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settle() // The task is counted for the old project.
	if err := moving.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// A zone that changes twice, the second time while the first rebuild is about to commit.
func TestZoneChangesDuringARebuild(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01 23:30Z")
	h.settle()
	h.exec(`UPDATE public.agent_runtime SET timezone = 'Asia/Kolkata'`)
	db := newPausingDB(h.pool)
	done := h.rebuildBeside(db, h.runtime)
	<-db.reached
	// None of this may wait for the rebuild.
	h.exec(`UPDATE public.agent_runtime SET timezone = 'America/Havana'`)
	h.use(h.newTask(), "p", "2025-05-01 23:45Z")
	if r := h.drainAll(h.pool); r.Deferred != 1 || r.Entries != 0 {
		t.Errorf("the entry of a runtime that is being rebuilt: %+v, want it deferred", r)
	}
	if r, err := rollup.Rebuild(t.Context(), h.pool, h.runtime); err != nil || !r.Busy {
		t.Errorf("a second rebuild: %+v, %v, want busy", r, err)
	}
	db.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.runtime_rebuild`); n != 1 {
		t.Errorf("%d requests are left, want the one raised during the rebuild", n)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
	if zone := scalar[string](t, h.pool, `SELECT timezone FROM daybook.runtime_rollup`); zone != "America/Havana" {
		t.Errorf("the buckets are in %s", zone)
	}
}

// A shard that another drain holds is left to it.
func TestShardOfAnotherDrainIsBusy(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01")
	shard := scalar[int16](t, h.pool, `SELECT shard FROM daybook.task_usage_daily_dirty`)
	db := newPausingDB(h.pool)
	done := h.drainBeside(db, shard)
	<-db.reached
	if r, err := rollup.Drain(t.Context(), h.pool, []int16{shard}, nil); err != nil || !r.Busy {
		t.Errorf("a second drain: %+v, %v, want busy", r, err)
	}
	h.use(h.newTask(), "p", "2025-05-01")
	db.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// idsInShard returns n ids of tasks that belong to a shard.
func (h *host) idsInShard(shard, n int) []pgtype.UUID {
	h.t.Helper()
	rows, err := h.pool.Query(h.t.Context(), `
		SELECT id FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1 * 24 + 500)) x WHERE daybook.shard_of(id) = $2 LIMIT $1`, n, shard)
	if err != nil {
		h.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pgtype.UUID])
	if err != nil || len(ids) != n {
		h.t.Fatalf("%d ids, %v; want %d", len(ids), err, n)
	}
	return ids
}

func (h *host) useMany(ids []pgtype.UUID, runtimes ...pgtype.UUID) {
	h.t.Helper()
	h.exec(`INSERT INTO public.agent_task_queue (id, agent_id, runtime_id)
		SELECT id, $2, ($3::uuid[])[1 + n % cardinality($3::uuid[])] FROM unnest($1::uuid[]) WITH ORDINALITY AS x (id, n)`, ids, h.agent, runtimes)
	h.exec(`INSERT INTO public.task_usage (task_id, provider, model, input_tokens) SELECT id, 'p', 'm', 1 FROM unnest($1::uuid[]) AS x (id)`, ids)
}

// The entries of a runtime that is being rebuilt fill more than a batch of the queue; those of others behind them are drained.
func TestRebuildDelaysNoOtherRuntime(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01")
	h.settle()
	other := h.newRuntime("UTC")
	ids := h.idsInShard(0, 2510)
	h.useMany(ids[:2500], h.runtime)
	h.useMany(ids[2500:], other)
	db := newPausingDB(h.pool)
	done := h.rebuildBeside(db, h.runtime)
	<-db.reached
	if r := h.drainAll(h.pool); r.Deferred != 2500 || r.Tasks != 10 {
		t.Errorf("%d tasks drained and %d entries deferred, want 10 and 2500", r.Tasks, r.Deferred)
	}
	db.release <- struct{}{}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// One task whose sum does not fit is set aside; the others are counted, and it too once it is put right.
func TestTaskThatCannotBeApplied(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	ids := h.idsInShard(0, 100)
	h.useMany(ids, h.runtime)
	bad := ids[37]
	h.exec(`UPDATE public.task_usage SET input_tokens = 9223372036854775807 WHERE task_id = ANY($1)`, []pgtype.UUID{bad})
	result := h.settle()
	if len(result.Quarantined) == 0 {
		t.Fatal("no task was quarantined")
	}
	if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_daily_quarantine`); n != 1 {
		t.Errorf("%d tasks are in quarantine, want 1", n)
	}
	counted := scalar[int](t, h.pool, `SELECT sum(event_count)::integer FROM daybook.task_usage_daily`)
	if counted != 99 {
		t.Errorf("%d tasks are counted, want 99", counted)
	}
	h.exec(`UPDATE public.task_usage SET input_tokens = 1 WHERE task_id = ANY($1)`, ids)
	h.settle()
	testdb.RequireExact(t, h.pool)
	if n := scalar[int](t, h.pool, `SELECT count(*) FROM daybook.task_usage_daily_quarantine`); n != 0 {
		t.Errorf("%d tasks are in quarantine after all were put right", n)
	}
}

// A runtime that was deleted and made again under its id, in another zone.
func TestRuntimeMadeAgainInAnotherZone(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.use(h.newTask(), "p", "2025-05-01 23:30Z")
	h.settle()
	h.exec(`DELETE FROM public.agent`)
	h.exec(`DELETE FROM public.agent_runtime`)
	h.exec(`INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone) VALUES ($1, $2, 'r', 'p', 'Asia/Kolkata')`, h.runtime, h.workspace)
	h.agent = h.id(`INSERT INTO public.agent (workspace_id, runtime_id) VALUES ($1, $2) RETURNING id`, h.workspace, h.runtime)
	h.use(h.newTask(), "p", "2025-05-01 23:30Z")
	h.settle()
	testdb.RequireExact(t, h.pool)
	// Once more, by TRUNCATE.
	h.exec(`TRUNCATE public.agent_runtime CASCADE`)
	h.settle()
	h.exec(`INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone) VALUES ($1, $2, 'r', 'p', 'Africa/Cairo')`, h.runtime, h.workspace)
	h.agent = h.id(`INSERT INTO public.agent (workspace_id, runtime_id) VALUES ($1, $2) RETURNING id`, h.workspace, h.runtime)
	h.use(h.newTask(), "p", "2025-05-01 22:30Z")
	h.settle()
	testdb.RequireExact(t, h.pool)
}

// Data that no rollup can count is set aside, task by task, and stops neither drains nor rebuilds.
func TestDataThatCannotBeCounted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, prepare, spoil string
		counted              int // of what is spoilt: what was counted before it was
	}{
		{"infinite usage", ``, `UPDATE public.task_usage SET created_at = 'infinity' WHERE task_id = $1`, 0},
		{"infinite start", ``, `UPDATE public.agent_task_queue SET started_at = '-infinity' WHERE id = $1`, 0},
		{
			"a run longer than bigint has microseconds", ``,
			`UPDATE public.agent_task_queue SET status = 'completed', started_at = '4713-01-02 BC', completed_at = '294276-12-31' WHERE id = $1`, 0,
		},
		{
			"a name too long for an index", `ALTER TABLE public.task_usage DROP CONSTRAINT task_usage_task_id_provider_model_key`,
			`UPDATE public.task_usage SET model = (SELECT string_agg(md5(n::text || random()), '') FROM generate_series(1, 120) n) WHERE task_id = $1`, 0,
		},
		{
			"a usage row twice", `ALTER TABLE public.task_usage DROP CONSTRAINT task_usage_task_id_provider_model_key`,
			`INSERT INTO public.task_usage (task_id, provider, model) SELECT task_id, provider, model FROM public.task_usage WHERE task_id = $1`, 0,
		},
		{
			"the same usage row twice, one of them counted", `ALTER TABLE public.task_usage DROP CONSTRAINT task_usage_task_id_provider_model_key`,
			`INSERT INTO public.task_usage (task_id, provider, model, input_tokens, created_at)
				SELECT task_id, provider, model, input_tokens, created_at FROM public.task_usage WHERE task_id = $1`, 1,
		},
		{
			"a usage row twice, both unlike what is counted", `ALTER TABLE public.task_usage DROP CONSTRAINT task_usage_task_id_provider_model_key`,
			`WITH first AS (UPDATE public.task_usage SET input_tokens = 3 WHERE task_id = $1 RETURNING *)
				INSERT INTO public.task_usage (task_id, provider, model, input_tokens) SELECT task_id, provider, model, 4 FROM first`, 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, "UTC")
			h.exec(test.prepare)
			ids := h.idsInShard(0, 20)
			h.useMany(ids, h.runtime)
			if test.counted > 0 {
				h.settle()
			}
			h.exec(test.spoil, ids[7])
			h.settle()
			bad := scalar[string](t, h.pool, `SELECT string_agg(task_id::text, ' ') FROM daybook.task_usage_daily_quarantine`)
			if bad != ids[7].String() {
				t.Errorf("in quarantine: %s, want %s alone", bad, ids[7])
			}
			h.exec(`UPDATE public.agent_runtime SET timezone = 'Asia/Kolkata'`)
			h.settle()
			if n := scalar[int](t, h.pool, `SELECT sum(event_count)::integer FROM daybook.task_usage_daily`); n != 19+test.counted {
				t.Errorf("%d usage rows are counted, want %d", n, 19+test.counted)
			}
			h.exec(`DELETE FROM public.agent_task_queue WHERE id = $1`, ids[7])
			h.settle()
			testdb.RequireExact(t, h.pool)
		})
	}
}

// The database's default isolation level is not the drain's.
func TestDefaultIsolationLevelDoesNotMatter(t *testing.T) {
	t.Parallel()
	h := setup(t, "UTC")
	h.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''serializable''', current_database()); END $$`)
	serializable := testdb.Open(t, h.pool)
	if level := scalar[string](t, serializable, `SHOW default_transaction_isolation`); level != "serializable" {
		t.Fatalf("default isolation is %s", level)
	}
	// The host and the queries of the test itself are as usual.
	pool := testdb.Open(t, h.pool, func(c *pgxpool.Config) {
		c.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	})
	if err := play(t.Context(), pool, serializable, history.Config{Seed: history.Seed(t), Transactions: 60}); err != nil {
		t.Fatal(err)
	}
	testdb.RequireExact(t, pool)
}

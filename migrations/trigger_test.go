package migrations_test

import (
	"slices"
	"testing"
)

// What each change of the host puts into the queue. A deleted task with usage is named by the triggers of both tables.
func TestQueued(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	clearQueue(t, pool)
	for _, test := range []struct {
		name, sql string
		want      []string
	}{
		// Usage.
		{"usage inserted", `INSERT INTO public.task_usage (task_id, provider, model) VALUES (@idle, 'p', 'm')`, []string{"dirty idle"}},
		{
			"usage of two tasks inserted", `
				INSERT INTO public.task_usage (task_id, provider, model) VALUES (@idle, 'p', 'a'), (@idle, 'p', 'b'), (@odd, 'p', 'a')`,
			[]string{"dirty idle", "dirty idle", "dirty odd"},
		},
		{
			"usage upserted, new", `
				INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@idle, 'p', 'm', 1)
				ON CONFLICT (task_id, provider, model) DO UPDATE SET input_tokens = excluded.input_tokens, updated_at = now()`,
			[]string{"dirty idle"},
		},
		{
			"usage upserted, overwritten", `
				INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@done, 'p', 'm1', 1)
				ON CONFLICT (task_id, provider, model) DO UPDATE SET input_tokens = excluded.input_tokens, updated_at = now()`,
			[]string{"dirty done"},
		},
		{
			"usage upserted, new and overwritten", `
				INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@done, 'p', 'm1', 1), (@odd, 'p', 'm', 1)
				ON CONFLICT (task_id, provider, model) DO UPDATE SET input_tokens = excluded.input_tokens, updated_at = now()`,
			[]string{"dirty done", "dirty odd"},
		},
		{
			"usage left alone on conflict", `
				INSERT INTO public.task_usage (task_id, provider, model) VALUES (@done, 'p', 'm1') ON CONFLICT DO NOTHING`,
			nil,
		},
		{"usage updated", `UPDATE public.task_usage SET output_tokens = 3 WHERE task_id = @busy`, []string{"dirty busy", "dirty busy"}},
		{"all usage updated", `UPDATE public.task_usage SET created_at = created_at - interval '1 day'`, []string{"dirty busy", "dirty busy", "dirty done"}},
		{"usage given to another task", `UPDATE public.task_usage SET task_id = @idle WHERE task_id = @done`, []string{"dirty done", "dirty idle"}},
		{"no usage updated", `UPDATE public.task_usage SET output_tokens = 3 WHERE false`, nil},
		{"usage deleted", `DELETE FROM public.task_usage WHERE task_id = @busy AND model = 'm1'`, []string{"dirty busy"}},
		{"all usage deleted", `DELETE FROM public.task_usage`, []string{"dirty busy", "dirty done"}},
		{"no usage deleted", `DELETE FROM public.task_usage WHERE task_id = @idle`, nil},
		{"usage truncated", `TRUNCATE public.task_usage`, []string{"scope all"}},

		// Tasks.
		{"task inserted", `INSERT INTO public.agent_task_queue (agent_id, runtime_id) VALUES (@ann, @home)`, nil},
		{
			"task inserted that has started", `
				INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, status, started_at) VALUES (@acme, @ann, @home, 'running', now())`,
			[]string{"dirty acme"},
		},
		{"heartbeat", `UPDATE public.agent_task_queue SET context = '{"alive": true}', priority = priority + 1`, nil},
		{
			"the same written again", `
				UPDATE public.agent_task_queue SET runtime_id = runtime_id, agent_id = agent_id, issue_id = issue_id, status = status,
					started_at = started_at, completed_at = completed_at`,
			nil,
		},
		{"dispatched", `UPDATE public.agent_task_queue SET status = 'dispatched' WHERE id = @idle`, nil},
		{"running, but not started", `UPDATE public.agent_task_queue SET status = 'running' WHERE id = @idle`, nil},
		{"cancelled before it started", `UPDATE public.agent_task_queue SET status = 'cancelled' WHERE id = @idle`, nil},
		{"started", `UPDATE public.agent_task_queue SET status = 'running', started_at = now() WHERE id = @idle`, []string{"dirty idle"}},
		{"completed", `UPDATE public.agent_task_queue SET status = 'completed', completed_at = now() WHERE id = @busy`, []string{"dirty busy"}},
		{"failed", `UPDATE public.agent_task_queue SET status = 'failed', completed_at = now() WHERE id = @busy`, []string{"dirty busy"}},
		{"cancelled", `UPDATE public.agent_task_queue SET status = 'cancelled', completed_at = now() WHERE id = @busy`, []string{"dirty busy"}},
		{"completed turns to failed", `UPDATE public.agent_task_queue SET status = 'failed' WHERE id = @done`, []string{"dirty done"}},
		{"reopened", `UPDATE public.agent_task_queue SET status = 'queued' WHERE id = @done`, []string{"dirty done"}},
		{"moved", `UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @busy`, []string{"dirty busy"}},
		{
			"all of a runtime moved", `UPDATE public.agent_task_queue SET runtime_id = @away WHERE runtime_id = @home`,
			[]string{"dirty busy", "dirty done", "dirty idle"},
		},
		{"runtime taken", `UPDATE public.agent_task_queue SET runtime_id = NULL WHERE id = @busy`, []string{"dirty busy"}},
		{"given to another agent", `UPDATE public.agent_task_queue SET agent_id = @bob WHERE id = @busy`, []string{"dirty busy"}},
		{"issue given", `UPDATE public.agent_task_queue SET issue_id = @wish WHERE id = @odd`, []string{"dirty odd"}},
		{"issue changed", `UPDATE public.agent_task_queue SET issue_id = @wish WHERE id = @busy`, []string{"dirty busy"}},
		{"issue taken", `UPDATE public.agent_task_queue SET issue_id = NULL WHERE id = @busy`, []string{"dirty busy"}},
		{"id changed", `UPDATE public.agent_task_queue SET id = @acme WHERE id = @odd`, []string{"dirty acme", "dirty odd"}},
		{"task without usage deleted", `DELETE FROM public.agent_task_queue WHERE id = @odd`, []string{"dirty odd"}},
		{"task with usage deleted", `DELETE FROM public.agent_task_queue WHERE id = @busy`, []string{"dirty busy", "dirty busy"}},
		{
			"all tasks of a runtime deleted", `DELETE FROM public.agent_task_queue WHERE runtime_id = @home`,
			[]string{"dirty busy", "dirty busy", "dirty done", "dirty done", "dirty idle"},
		},
		{"no task deleted", `DELETE FROM public.agent_task_queue WHERE false`, nil},
		{"tasks truncated", `TRUNCATE public.agent_task_queue CASCADE`, []string{"scope all", "scope all"}},

		// Issues.
		{"issue inserted", `INSERT INTO public.issue (workspace_id, project_id) VALUES (@acme, @red)`, nil},
		{"issue renamed", `UPDATE public.issue SET title = 'x', project_id = project_id`, nil},
		{"issue given a project", `UPDATE public.issue SET project_id = @red WHERE id = @wish`, []string{"scope issue wish"}},
		{"issue moved", `UPDATE public.issue SET project_id = @blue WHERE id = @bug`, []string{"scope issue bug"}},
		{"issue without project", `UPDATE public.issue SET project_id = NULL WHERE id = @bug`, []string{"scope issue bug"}},
		{"project deleted", `DELETE FROM public.project WHERE id = @red`, []string{"scope issue bug"}},
		{
			"issue deleted", `DELETE FROM public.issue WHERE id = @bug`,
			[]string{"dirty busy", "dirty busy", "dirty done", "dirty done", "scope issue bug"},
		},
		{"issue without project and tasks deleted", `DELETE FROM public.issue WHERE id = @wish`, nil},
		{"issues truncated", `TRUNCATE public.issue CASCADE`, []string{"scope all", "scope all", "scope all"}},

		// Agents.
		{"agent inserted", `INSERT INTO public.agent (workspace_id, runtime_id) VALUES (@acme, @home)`, nil},
		{"agent archived, renamed, moved", `UPDATE public.agent SET archived_at = now(), name = 'x', runtime_id = @away`, nil},
		{"agent of another workspace", `UPDATE public.agent SET workspace_id = @other WHERE id = @ann`, []string{"scope agent ann"}},
		{"agent deleted", `DELETE FROM public.agent WHERE id = @bob`, []string{"dirty odd"}},
		{
			"agent with usage deleted", `DELETE FROM public.agent WHERE id = @ann`,
			[]string{"dirty busy", "dirty busy", "dirty done", "dirty done", "dirty idle"},
		},
		{"agents truncated", `TRUNCATE public.agent CASCADE`, []string{"scope all", "scope all"}},

		// Runtimes.
		{
			// It may have the id of one that was counted in another zone.
			"runtime inserted", `
				INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone)
				VALUES ('00000000-0000-0000-0000-000000000001', @acme, 'r', 'p', 'Asia/Tokyo')`,
			[]string{"rebuild 00000000-0000-0000-0000-000000000001"},
		},
		{
			"runtime seen", `
				UPDATE public.agent_runtime SET last_seen_at = now(), updated_at = now(), status = 'online', metadata = '{"a": 1}',
					name = 'x', visibility = 'public', timezone = timezone`,
			nil,
		},
		{"zone changed", `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`, []string{"rebuild home"}},
		{"zones changed", `UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`, []string{"rebuild away", "rebuild home", "rebuild spare"}},
		{"zone unknown to Postgres", `UPDATE public.agent_runtime SET timezone = 'Mars/Olympus' WHERE id = @home`, []string{"rebuild home"}},
		{"runtime deleted", `DELETE FROM public.agent_runtime WHERE id = @spare`, []string{"dirty odd", "rebuild spare"}},
	} {
		// Each change stands alone: the one before it is rolled back.
		tx, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), test.sql, w); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		slices.Sort(test.want)
		if got := queued(t, tx, w); !slices.Equal(got, test.want) {
			t.Errorf("%s: queued %q, want %q", test.name, got, test.want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	requireQueued(t, pool, w)
}

// A host may let usage be of no task. What was of one still is a change of that task, also where a trigger of the host takes it away.
func TestQueuedWhereUsageMayHaveNoTask(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	exec(t, pool, `ALTER TABLE public.task_usage ALTER task_id DROP NOT NULL`)
	exec(t, pool, `CREATE FUNCTION public.take_usage() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.task_id := NULL; RETURN NEW; END'`)
	exec(t, pool, `
		CREATE TRIGGER take BEFORE UPDATE ON public.task_usage
		FOR EACH ROW WHEN (NEW.output_tokens = 99) EXECUTE FUNCTION public.take_usage()`)
	for _, test := range []struct {
		name, sql string
		want      []string
	}{
		{"usage of no task inserted", `INSERT INTO public.task_usage (provider, model) VALUES ('p', 'none')`, nil},
		{"usage of no task updated", `UPDATE public.task_usage SET output_tokens = 3 WHERE task_id IS NULL`, nil},
		{"usage given to a task", `UPDATE public.task_usage SET task_id = @idle WHERE task_id IS NULL`, []string{"dirty idle"}},
		{"usage taken from its task", `UPDATE public.task_usage SET task_id = NULL WHERE task_id = @idle`, []string{"dirty idle"}},
		{"usage of no task deleted", `DELETE FROM public.task_usage WHERE task_id IS NULL`, nil},
		{"usage taken from its task by the host's trigger", `UPDATE public.task_usage SET output_tokens = 99 WHERE task_id = @done`, []string{"dirty done"}},
	} {
		clearQueue(t, pool)
		exec(t, pool, test.sql, w)
		if got := queued(t, pool, w); !slices.Equal(got, test.want) {
			t.Errorf("%s: queued %q, want %q", test.name, got, test.want)
		}
	}
}

func TestEveryZoneChangeIsARequest(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	clearQueue(t, pool)
	for _, zone := range []string{"Asia/Tokyo", "UTC"} {
		exec(t, pool, `UPDATE public.agent_runtime SET timezone = '`+zone+`' WHERE id = @home`, w)
	}
	requireQueued(t, pool, w, "rebuild home", "rebuild home")
}

// Each entry appears with its transaction: nothing of one that is rolled back, or is open.
func TestRolledBackLeavesNothing(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	clearQueue(t, pool)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context())
	nested, err := tx.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`DELETE FROM public.agent_task_queue WHERE id = @busy`,
		`UPDATE public.issue SET project_id = @blue WHERE id = @bug`,
		`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`,
		`TRUNCATE public.task_usage`,
	} {
		exec(t, nested, sql, w)
	}
	if len(queued(t, nested, w)) == 0 {
		t.Error("nothing was queued")
	}
	if err := nested.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	requireQueued(t, tx, w)
	exec(t, tx, `UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @done`, w)
	requireQueued(t, tx, w, "dirty done")
	requireQueued(t, pool, w)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	requireQueued(t, pool, w)
}

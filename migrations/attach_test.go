package migrations_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"daybook/internal/testdb"
	"daybook/migrations"
	"daybook/rollup"
)

func attach(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if err := migrations.Attach(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

func detach(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if err := migrations.Detach(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

func backfill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{}); err != nil {
		t.Fatal(err)
	}
}

func attachedAt(t *testing.T, pool *pgxpool.Pool) time.Time {
	t.Helper()
	return scalar[time.Time](t, pool, `SELECT attached_at FROM daybook.coverage`)
}

func TestBackfillBringsBackWhatChangedWhileDetached(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		sql  []string
	}{
		{"usage written", []string{
			`UPDATE public.task_usage SET input_tokens = 99 WHERE task_id = @done`,
			`INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@odd, 'p', 'm', 7)`,
			`DELETE FROM public.task_usage WHERE task_id = @busy AND model = 'm1'`,
		}},
		{"zone changed", []string{`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo'`}},
		{"zone changed, task moved", []string{
			`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`,
			`UPDATE public.agent_runtime SET timezone = 'America/New_York' WHERE id = @away`,
			`UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @busy`,
		}},
		{"tasks deleted", []string{`DELETE FROM public.agent_task_queue WHERE id = @busy`}},
		{"runtime deleted", []string{`DELETE FROM public.agent_runtime WHERE id = @spare`}},
		{"issue moved, agent moved", []string{
			`UPDATE public.issue SET project_id = @blue WHERE id = @bug`,
			`UPDATE public.agent SET workspace_id = @other WHERE id = @ann`,
		}},
		{"truncated", []string{
			`TRUNCATE public.agent_task_queue CASCADE`,
			`INSERT INTO public.agent_task_queue (id, agent_id, runtime_id) VALUES (@done, @bob, @away)`,
			`INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@done, 'p', 'm', 7)`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool, w := setup(t)
			requireCounted(t, pool)
			detach(t, pool)
			detach(t, pool)
			for _, sql := range test.sql {
				exec(t, pool, sql, w)
			}
			requireQueued(t, pool, w)
			if differences, err := testdb.Differences(t.Context(), pool); err != nil || len(differences) == 0 {
				t.Fatalf("the test changes nothing that is counted (%v)", err)
			}
			err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{})
			if !errors.Is(err, rollup.ErrNotAttached) {
				t.Fatalf("backfill while detached: %v", err)
			}
			attach(t, pool)
			backfill(t, pool)
			requireCounted(t, pool)
		})
	}
}

// The host's rows from before Up are counted by a backfill.
func TestBackfillAfterUp(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	populate(t, pool)
	up(t, pool)
	backfill(t, pool)
	requireCounted(t, pool)
}

func TestAttachTwiceKeepsCoverage(t *testing.T) {
	t.Parallel()
	pool, w := setup(t)
	since, triggers := attachedAt(t, pool), triggerCount(t, pool)
	attach(t, pool)
	if again := attachedAt(t, pool); !again.Equal(since) {
		t.Errorf("attached at %v, and after a second attach at %v", since, again)
	}
	if again := triggerCount(t, pool); again != triggers {
		t.Errorf("%d triggers, and %d after a second attach", triggers, again)
	}
	clearQueue(t, pool)
	exec(t, pool, `UPDATE public.task_usage SET input_tokens = 1 WHERE task_id = @done`, w)
	requireQueued(t, pool, w, "dirty done")
	detach(t, pool)
	attach(t, pool)
	if again := attachedAt(t, pool); !again.After(since) {
		t.Errorf("attached at %v, and after a detach at %v", since, again)
	}
}

// A trigger that is off, whichever it is, could have missed a change.
func TestAttachSeesThatATriggerWasOff(t *testing.T) {
	t.Parallel()
	pool, _ := setup(t)
	type trigger struct{ Name, Table string }
	rows, err := pool.Query(t.Context(), `SELECT name::text, relation::text FROM daybook.host_triggers()`)
	if err != nil {
		t.Fatal(err)
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[trigger])
	if err != nil || len(triggers) == 0 {
		t.Fatalf("%d triggers, %v", len(triggers), err)
	}
	definitions := `SELECT tgenabled::text || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1`
	want := lines(t, pool, definitions)
	for _, g := range triggers {
		for _, off := range []string{
			`DROP TRIGGER %[1]s ON public.%[2]s`,
			`ALTER TABLE public.%[2]s DISABLE TRIGGER %[1]s`,
			`ALTER TABLE public.%[2]s ENABLE REPLICA TRIGGER %[1]s`,
		} {
			sql := fmt.Sprintf(off, g.Name, g.Table)
			since := attachedAt(t, pool)
			exec(t, pool, sql)
			err := rollup.Backfill(t.Context(), pool, rollup.BackfillConfig{})
			if !errors.Is(err, rollup.ErrNotAttached) {
				t.Errorf("%s: backfill: %v", sql, err)
			}
			attach(t, pool)
			if !attachedAt(t, pool).After(since) {
				t.Errorf("%s: attach did not move attached_at", sql)
			}
			if got := lines(t, pool, definitions); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s: triggers after attach: %q, want %q", sql, got, want)
			}
		}
	}
	backfill(t, pool)
	requireCounted(t, pool)
}

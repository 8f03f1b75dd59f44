package migrations_test

import (
	"errors"
	"slices"
	"testing"

	"daybook/internal/testdb"
	"daybook/migrations"
)

func TestHostErrorListsAllThatIsMissing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, sql string
		want      []string
	}{
		{"a table", `DROP TABLE public.member`, []string{`table public.member`}},
		{"a column", `ALTER TABLE public.agent_runtime DROP COLUMN timezone`, []string{`column public.agent_runtime.timezone`}},
		{
			"tables and columns", `
				DROP TABLE public."user", public.task_usage CASCADE;
				ALTER TABLE public.agent_task_queue DROP COLUMN started_at, DROP COLUMN completed_at;
				ALTER TABLE public.issue RENAME COLUMN project_id TO epic_id;
				CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.task_usage (id uuid)`,
			[]string{
				`table public.task_usage`, `table public."user"`,
				`column public.agent_task_queue.completed_at`, `column public.agent_task_queue.started_at`,
				`column public.issue.project_id`,
			},
		},
		{"everything", `DROP SCHEMA public CASCADE`, []string{
			`table public.agent`, `table public.agent_runtime`, `table public.agent_task_queue`, `table public.issue`,
			`table public.member`, `table public.task_usage`, `table public."user"`, `table public.workspace`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.NewHost(t)
			exec(t, pool, test.sql)
			_, err := migrations.Up(t.Context(), pool)
			for _, err := range []error{err, migrations.Attach(t.Context(), pool), migrations.CheckHost(t.Context(), pool)} {
				var hostErr *migrations.HostError
				if !errors.As(err, &hostErr) {
					t.Fatalf("error %v, want a HostError", err)
				}
				slices.Sort(hostErr.Problems)
				slices.Sort(test.want)
				if !slices.Equal(hostErr.Problems, test.want) {
					t.Errorf("problems %q, want %q", hostErr.Problems, test.want)
				}
			}
			if scalar[bool](t, pool, `SELECT to_regnamespace('daybook') IS NOT NULL`) {
				t.Error("Up made something")
			}
		})
	}
}

// Hosts that differ from the demo host in what Daybook leaves open.
func TestUpOnOtherHosts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, sql string }{
		{"no access tokens", `DROP TABLE public.personal_access_token`},
		{"runtime_id nullable", `ALTER TABLE public.agent_task_queue ALTER runtime_id DROP NOT NULL`},
		{"runtime_id not null", `ALTER TABLE public.agent_task_queue ALTER runtime_id SET NOT NULL`},
		{"enums", `
			CREATE TYPE public.task_status AS ENUM ('queued', 'dispatched', 'running', 'completed', 'failed', 'cancelled');
			CREATE TYPE public.member_role AS ENUM ('owner', 'admin', 'member');
			CREATE TYPE public.visibility AS ENUM ('private', 'public');
			ALTER TABLE public.agent_task_queue DROP CONSTRAINT agent_task_queue_status_check, ALTER status DROP DEFAULT;
			ALTER TABLE public.agent_task_queue ALTER status TYPE public.task_status USING status::public.task_status;
			ALTER TABLE public.agent_task_queue ALTER status SET DEFAULT 'queued';
			ALTER TABLE public.member DROP CONSTRAINT member_role_check;
			ALTER TABLE public.member ALTER role TYPE public.member_role USING role::public.member_role;
			ALTER TABLE public.agent_runtime DROP CONSTRAINT agent_runtime_visibility_check, ALTER visibility DROP DEFAULT;
			ALTER TABLE public.agent_runtime ALTER visibility TYPE public.visibility USING visibility::public.visibility;
			ALTER TABLE public.agent_runtime ALTER visibility SET DEFAULT 'private'`},
		{"more columns, in another order", `
			ALTER TABLE public.task_usage ADD cost numeric DEFAULT 1, ADD new_rows jsonb, DROP COLUMN created_at;
			ALTER TABLE public.task_usage ADD created_at timestamptz NOT NULL DEFAULT now();
			ALTER TABLE public.agent_task_queue ADD shard int, ADD enqueued_at timestamptz DEFAULT now();
			ALTER TABLE public.agent_runtime ADD revision bigint`},
		{"triggers of its own", `
			CREATE TABLE public.audit (at timestamptz DEFAULT now(), what text);
			CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS
				$$ BEGIN INSERT INTO public.audit (what) VALUES (TG_TABLE_NAME || ' ' || TG_OP); RETURN coalesce(NEW, OLD); END $$;
			CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON public.task_usage FOR EACH ROW EXECUTE FUNCTION public.audit();
			CREATE TRIGGER z AFTER INSERT OR UPDATE OR DELETE ON public.task_usage FOR EACH ROW EXECUTE FUNCTION public.audit();
			CREATE TRIGGER s AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON public.task_usage
				FOR EACH STATEMENT EXECUTE FUNCTION public.audit();
			CREATE CONSTRAINT TRIGGER c AFTER UPDATE ON public.agent_task_queue DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW EXECUTE FUNCTION public.audit()`},
		{"a trigger that writes other tables", `
			CREATE FUNCTION public.move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				UPDATE public.agent_task_queue SET started_at = NEW.created_at WHERE id = NEW.task_id AND started_at IS NULL;
				RETURN NULL; END $$;
			CREATE TRIGGER move AFTER INSERT ON public.task_usage FOR EACH ROW EXECUTE FUNCTION public.move()`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			pool := testdb.NewHost(t)
			exec(t, pool, test.sql)
			up(t, pool)
			w := populate(t, pool)
			requireCounted(t, pool)
			for _, sql := range []string{
				`INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@idle, 'p', 'm', 7)`,
				`UPDATE public.agent_task_queue SET status = 'failed', completed_at = started_at + interval '1 hour' WHERE id = @busy`,
				`UPDATE public.agent_task_queue SET runtime_id = @away WHERE id = @done`,
				`UPDATE public.agent_runtime SET timezone = 'Asia/Tokyo' WHERE id = @home`,
				`DELETE FROM public.task_usage WHERE task_id = @busy AND model = 'm2'`,
			} {
				exec(t, pool, sql, w)
			}
			requireCounted(t, pool)
			if test.name == "triggers of its own" {
				if n := scalar[int](t, pool, `SELECT count(DISTINCT what) FROM public.audit`); n != 3 {
					t.Errorf("the host's triggers saw %d kinds of change, want 3", n)
				}
			}
			if test.name == "runtime_id nullable" {
				exec(t, pool, `UPDATE public.agent_task_queue SET runtime_id = NULL WHERE id = @done`, w)
				requireCounted(t, pool)
			}
			down(t, pool)
		})
	}
}

// A host may keep rollups and a queue of its own, under the names that ours have in the schema daybook.
func TestHostHasTablesOfOurNames(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	exec(t, pool, `
		CREATE TABLE public.task_usage_daily (task_id uuid PRIMARY KEY, rows bigint NOT NULL);
		CREATE TABLE public.task_usage_daily_dirty (task_id uuid PRIMARY KEY, seen bigint NOT NULL DEFAULT 0);
		CREATE FUNCTION public.mark_dirty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO task_usage_daily_dirty (task_id) VALUES (NEW.task_id) ON CONFLICT DO NOTHING; RETURN NULL; END $$;
		CREATE TRIGGER mark_dirty AFTER INSERT OR UPDATE ON public.task_usage FOR EACH ROW EXECUTE FUNCTION public.mark_dirty();
		CREATE FUNCTION public.count_dirty() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO task_usage_daily (task_id, rows) VALUES (NEW.task_id, 1)
			ON CONFLICT (task_id) DO UPDATE SET rows = task_usage_daily.rows + 1; RETURN NULL; END $$;
		CREATE TRIGGER count_dirty AFTER INSERT ON public.task_usage_daily_dirty FOR EACH ROW EXECUTE FUNCTION public.count_dirty()`)
	w := populate(t, pool)
	before := lines(t, pool, fingerprintSQL)
	up(t, pool)
	after := lines(t, pool, fingerprintSQL)
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("Up changed: %s", line)
		}
	}
	exec(t, pool, `INSERT INTO public.task_usage (task_id, provider, model, input_tokens) VALUES (@odd, 'p', 'm', 1)`, w)
	requireQueued(t, pool, w, "dirty odd")
	for _, table := range []string{"task_usage_daily", "task_usage_daily_dirty"} {
		if n := scalar[int](t, pool, `SELECT count(*) FROM public.`+table+` WHERE task_id = @odd`, w); n != 1 {
			t.Errorf("the host's %s has %d rows of the task", table, n)
		}
	}
	backfill(t, pool)
	requireCounted(t, pool)
	for _, table := range []string{"task_usage", "task_usage_daily", "task_usage_daily_dirty"} {
		exec(t, pool, `DELETE FROM public.`+table+` WHERE task_id = @odd`, w)
	}
	down(t, pool)
	requireSameHost(t, pool, before)
}

// A host whose usage is partitioned: partitions come and go, and the triggers go with the table.
func TestHostWithPartitions(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	exec(t, pool, `
		DROP TABLE public.task_usage;
		CREATE TABLE public.task_usage (
			id uuid NOT NULL DEFAULT gen_random_uuid(), task_id uuid NOT NULL REFERENCES public.agent_task_queue (id) ON DELETE CASCADE,
			provider text NOT NULL, model text NOT NULL, input_tokens bigint NOT NULL DEFAULT 0, output_tokens bigint NOT NULL DEFAULT 0,
			cache_read_tokens bigint NOT NULL DEFAULT 0, cache_write_tokens bigint NOT NULL DEFAULT 0,
			created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz, UNIQUE (task_id, provider, model)
		) PARTITION BY HASH (task_id);
		CREATE TABLE public.task_usage_0 PARTITION OF public.task_usage FOR VALUES WITH (MODULUS 2, REMAINDER 0)`)
	up(t, pool)
	exec(t, pool, `CREATE TABLE public.task_usage_1 PARTITION OF public.task_usage FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	if !scalar[bool](t, pool, `SELECT daybook.attached()`) {
		t.Error("a new partition looks like a missing trigger")
	}
	exec(t, pool, `
		INSERT INTO public.workspace (slug) VALUES ('acme');
		INSERT INTO public.agent_runtime (workspace_id, name, provider) SELECT id, 'r', 'p' FROM public.workspace;
		INSERT INTO public.agent (workspace_id, runtime_id) SELECT workspace_id, id FROM public.agent_runtime;
		INSERT INTO public.agent_task_queue (agent_id, runtime_id) SELECT id, runtime_id FROM public.agent, generate_series(1, 20);
		INSERT INTO public.task_usage (task_id, provider, model) SELECT id, 'p', 'm' FROM public.agent_task_queue;
		DELETE FROM public.task_usage`)
	if n := scalar[int](t, pool, `SELECT count(*) FROM daybook.task_usage_daily_dirty`); n != 40 {
		t.Errorf("%d entries, want one for each row written and one for each task deleted", n)
	}
	if err := migrations.Detach(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Down(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

// Types that would be counted, and counted wrong.
func TestHostErrorNamesWrongTypes(t *testing.T) {
	t.Parallel()
	pool := testdb.NewHost(t)
	exec(t, pool, `ALTER TABLE public.task_usage ALTER created_at TYPE timestamp`)
	_, err := migrations.Up(t.Context(), pool)
	var host *migrations.HostError
	want := []string{"column public.task_usage.created_at as timestamp with time zone (it is timestamp without time zone)"}
	if !errors.As(err, &host) || !slices.Equal(host.Problems, want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

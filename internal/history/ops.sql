-- What a host does, one statement each, with how often it does it. The random values are the same in every statement of a
-- transaction, so that some of its statements meet.

-- op: 30
INSERT INTO public.task_usage (task_id, provider, model, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, created_at)
SELECT id, @provider::text, @model::text, @tokens::bigint, @tokens::bigint / 3, @tokens::bigint / 7, 1, @at::timestamptz FROM public.agent_task_queue WHERE id = @task::uuid
ON CONFLICT (task_id, provider, model) DO UPDATE SET
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, updated_at = now()

-- op: 10
UPDATE public.task_usage SET output_tokens = output_tokens + @tokens::bigint WHERE task_id = @task::uuid

-- op: 4
UPDATE public.task_usage SET created_at = @at::timestamptz WHERE task_id = @task::uuid AND model = @model::text

-- op: 5
DELETE FROM public.task_usage WHERE task_id = @task::uuid AND provider = @provider::text

-- op: 2
UPDATE public.task_usage SET task_id = @task2::uuid WHERE task_id = @task::uuid AND provider = @provider::text AND model = @model::text

-- op: 15
INSERT INTO public.agent_task_queue (id, agent_id, runtime_id, issue_id, status, created_at, started_at)
SELECT @task::uuid, a.id, CASE WHEN @chance::integer < 5 THEN NULL ELSE r.id END, CASE WHEN @chance::integer < 50 THEN i.id END,
    'running', @at::timestamptz, CASE WHEN @chance::integer < 60 THEN @at::timestamptz END
FROM public.agent a, public.agent_runtime r, public.issue i
WHERE a.id = @agent::uuid AND r.id = @runtime::uuid AND i.id = @issue::uuid
ON CONFLICT (id) DO NOTHING

-- op: 8
UPDATE public.agent_task_queue SET status = 'running', started_at = @at::timestamptz WHERE id = @task::uuid AND started_at IS NULL

-- op: 10
UPDATE public.agent_task_queue SET status = @status::text, completed_at = started_at + @tokens::bigint * interval '1.000001 s' WHERE id = @task::uuid

-- op: 2
UPDATE public.agent_task_queue SET status = 'queued', started_at = NULL, completed_at = NULL WHERE id = @task::uuid

-- op: 10
UPDATE public.agent_task_queue SET runtime_id = @runtime::uuid WHERE id = @task::uuid

-- op: 2
UPDATE public.agent_task_queue SET runtime_id = @runtime::uuid WHERE runtime_id = @runtime2::uuid

-- op: 3
UPDATE public.agent_task_queue SET agent_id = @agent::uuid WHERE id = @task::uuid

-- op: 6
UPDATE public.agent_task_queue SET issue_id = CASE WHEN @chance::integer < 30 THEN NULL ELSE @issue::uuid END WHERE id = @task::uuid

-- op: 6
UPDATE public.issue SET project_id = CASE WHEN @chance::integer < 30 THEN NULL ELSE @project::uuid END WHERE id = @issue::uuid

-- op: 3
UPDATE public.agent SET workspace_id = @workspace::uuid WHERE id = @agent::uuid

-- op: 10
UPDATE public.agent_runtime SET timezone = @zone::text WHERE id = @runtime::uuid

-- op: 5
DELETE FROM public.agent_task_queue WHERE id = @task::uuid

-- op: 1
DELETE FROM public.issue WHERE id = @issue::uuid

-- op: 1
DELETE FROM public.agent WHERE id = @agent::uuid

-- op: 1
DELETE FROM public.agent WHERE runtime_id = @runtime::uuid

-- op: 1
DELETE FROM public.agent_runtime WHERE id = @runtime::uuid

-- op: 0.3
DELETE FROM public.workspace WHERE id = @workspace::uuid

-- op: 0.1
TRUNCATE public.task_usage

-- op: 0.1
TRUNCATE public.agent_task_queue CASCADE

-- op: 0.1
TRUNCATE public.agent_runtime CASCADE

-- op: 3
SELECT pg_sleep(0.01)

-- op: 6
INSERT INTO public.workspace (id, slug) VALUES (@workspace::uuid, @workspace::uuid::text) ON CONFLICT DO NOTHING

-- op: 6
INSERT INTO public.project (id, workspace_id) SELECT @project::uuid, id FROM public.workspace WHERE id = @workspace::uuid ON CONFLICT DO NOTHING

-- op: 6
INSERT INTO public.agent_runtime (id, workspace_id, name, provider, timezone)
SELECT @runtime::uuid, id, 'r', 'p', @zone::text FROM public.workspace WHERE id = @workspace::uuid ON CONFLICT DO NOTHING

-- op: 6
INSERT INTO public.agent (id, workspace_id, runtime_id)
SELECT @agent::uuid, w.id, r.id FROM public.workspace w, public.agent_runtime r WHERE w.id = @workspace::uuid AND r.id = @runtime::uuid
ON CONFLICT DO NOTHING

-- op: 6
INSERT INTO public.issue (id, workspace_id, project_id)
SELECT @issue::uuid, w.id, p.id FROM public.workspace w, public.project p WHERE w.id = @workspace::uuid AND p.id = @project::uuid
ON CONFLICT DO NOTHING

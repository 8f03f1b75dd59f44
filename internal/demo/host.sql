-- A host application as Daybook expects one: the tables and columns that it may rely on, and some that a
-- real host has besides. Used by `make run`, by the tests and by sqlc.

CREATE TABLE public.workspace (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug       text NOT NULL UNIQUE,
    name       text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public."user" (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.member (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspace (id) ON DELETE CASCADE,
    user_id      uuid NOT NULL REFERENCES public."user" (id) ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    UNIQUE (workspace_id, user_id)
);

CREATE TABLE public.personal_access_token (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL REFERENCES public."user" (id) ON DELETE CASCADE,
    token_hash text NOT NULL UNIQUE,
    expires_at timestamptz,
    revoked    boolean NOT NULL DEFAULT false
);

CREATE TABLE public.project (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspace (id) ON DELETE CASCADE,
    title        text NOT NULL DEFAULT ''
);

CREATE TABLE public.agent_runtime (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspace (id) ON DELETE CASCADE,
    daemon_id    text,
    name         text NOT NULL,
    runtime_mode text NOT NULL DEFAULT 'local' CHECK (runtime_mode IN ('local', 'cloud')),
    provider     text NOT NULL,
    status       text NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'offline')),
    device_info  text NOT NULL DEFAULT '',
    metadata     jsonb NOT NULL DEFAULT '{}',
    owner_id     uuid REFERENCES public."user" (id) ON DELETE SET NULL,
    visibility   text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'public')),
    timezone     text NOT NULL DEFAULT 'UTC',
    last_seen_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.agent (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspace (id) ON DELETE CASCADE,
    runtime_id   uuid NOT NULL REFERENCES public.agent_runtime (id) ON DELETE RESTRICT,
    name         text NOT NULL DEFAULT '',
    archived_at  timestamptz
);

CREATE TABLE public.issue (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspace (id) ON DELETE CASCADE,
    project_id   uuid REFERENCES public.project (id) ON DELETE SET NULL,
    title        text NOT NULL DEFAULT ''
);

CREATE TABLE public.agent_task_queue (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id     uuid NOT NULL REFERENCES public.agent (id) ON DELETE CASCADE,
    runtime_id   uuid REFERENCES public.agent_runtime (id) ON DELETE CASCADE,
    issue_id     uuid REFERENCES public.issue (id) ON DELETE CASCADE,
    status       text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'dispatched', 'running', 'completed', 'failed', 'cancelled')),
    priority     integer NOT NULL DEFAULT 0,
    context      jsonb,
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    completed_at timestamptz
);
CREATE INDEX agent_task_queue_agent_idx ON public.agent_task_queue (agent_id, status);
CREATE INDEX agent_task_queue_runtime_idx ON public.agent_task_queue (runtime_id);
CREATE INDEX agent_task_queue_issue_idx ON public.agent_task_queue (issue_id);

CREATE TABLE public.task_usage (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task_id            uuid NOT NULL REFERENCES public.agent_task_queue (id) ON DELETE CASCADE,
    provider           text NOT NULL,
    model              text NOT NULL,
    input_tokens       bigint NOT NULL DEFAULT 0,
    output_tokens      bigint NOT NULL DEFAULT 0,
    cache_read_tokens  bigint NOT NULL DEFAULT 0,
    cache_write_tokens bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz,
    UNIQUE (task_id, provider, model)
);
CREATE INDEX task_usage_created_idx ON public.task_usage (created_at);

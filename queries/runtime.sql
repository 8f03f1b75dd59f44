-- The runtime objects that the api shows, and the two changes that it makes when it is allowed to.

-- name: GetRuntime :one
SELECT r.user_id::uuid AS user_id, r.workspace_id::uuid AS workspace_id, r.role::text AS role, true::boolean AS found,
    h.id, h.daemon_id, coalesce(h.name::text, '')::text AS name, coalesce(h.runtime_mode::text, '')::text AS runtime_mode,
    coalesce(h.provider::text, '')::text AS provider, coalesce(h.status::text, '')::text AS status,
    coalesce(h.device_info::text, '')::text AS device_info, coalesce(nullif(h.metadata::jsonb, 'null'), '{}')::jsonb AS metadata, h.owner_id,
    coalesce(h.visibility::text, '')::text AS visibility, coalesce(h.timezone::text, 'UTC')::text AS timezone, h.last_seen_at, h.created_at, h.updated_at
FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
    AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
JOIN public.agent_runtime h ON h.id = r.id;

-- name: ListRuntimes :many
-- Those of a workspace, or only the caller's own. As with usage, a workspace without any gives one row with found = false.
SELECT w.user_id::uuid AS user_id, w.id::uuid AS workspace_id, w.role::text AS role, (h.id IS NOT NULL)::boolean AS found,
    h.id, h.daemon_id, coalesce(h.name::text, '')::text AS name, coalesce(h.runtime_mode::text, '')::text AS runtime_mode,
    coalesce(h.provider::text, '')::text AS provider, coalesce(h.status::text, '')::text AS status,
    coalesce(h.device_info::text, '')::text AS device_info, coalesce(nullif(h.metadata::jsonb, 'null'), '{}')::jsonb AS metadata, h.owner_id,
    coalesce(h.visibility::text, '')::text AS visibility,
    coalesce(h.timezone::text, 'UTC')::text AS timezone, h.last_seen_at, h.created_at, h.updated_at
FROM daybook.readable_workspace(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, sqlc.narg(slug)::text, sqlc.narg(workspace_id)::uuid)
    AS w (id, user_id, role)
LEFT JOIN public.agent_runtime h ON h.workspace_id = w.id AND (NOT @own::boolean OR h.owner_id = w.user_id)
ORDER BY h.created_at, h.id;

-- name: IsTokenGood :one
-- Asked only when nothing was found for a personal access token, to tell a bad token from what is not the caller's to see.
SELECT (daybook.token_user(@token_hash::text) IS NOT NULL)::boolean AS good;

-- name: LockHostRuntime :one
-- Keeps the runtime from other changes until the transaction ends. Agents and tasks can be bound to it meanwhile.
SELECT r.user_id::uuid AS user_id, r.role::text AS role, h.workspace_id, h.owner_id,
    (sqlc.narg(zone)::text IS NULL OR daybook.effective_zone(sqlc.narg(zone)) = sqlc.narg(zone))::boolean AS zone_known
FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
    AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
JOIN public.agent_runtime h ON h.id = r.id
FOR NO KEY UPDATE OF h;

-- name: LockHostRuntimeToDelete :one
-- Also keeps agents and tasks from being bound to it.
SELECT r.user_id::uuid AS user_id, r.role::text AS role, h.workspace_id, h.owner_id
FROM daybook.readable_runtime(sqlc.narg(user_id)::uuid, sqlc.narg(token_hash)::text, @runtime_id::uuid)
    AS r (id, workspace_id, user_id, role, owner_id, host_timezone, built, timezone)
JOIN public.agent_runtime h ON h.id = r.id
FOR UPDATE OF h;

-- name: UpdateHostRuntime :exec
-- What is null stays as it is.
UPDATE public.agent_runtime
SET timezone = coalesce(sqlc.narg(timezone), timezone), visibility = coalesce(sqlc.narg(visibility), visibility), updated_at = now()
WHERE id = @runtime_id;

-- name: HasActiveAgents :one
SELECT EXISTS (SELECT FROM public.agent WHERE runtime_id = @runtime_id AND archived_at IS NULL) AS found;

-- name: DeleteArchivedAgents :exec
DELETE FROM public.agent WHERE runtime_id = @runtime_id AND archived_at IS NOT NULL;

-- name: DeleteHostRuntime :exec
DELETE FROM public.agent_runtime WHERE id = @runtime_id;

-- name: NotifyRuntime :exec
-- Listeners hear of it when the transaction commits.
SELECT pg_notify('daybook_runtime', @payload::text);

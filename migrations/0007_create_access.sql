-- Who may read what, in one place for every question that the api asks, and a sign of life from the workers. In these functions
-- arguments are called by number: a column of the host's tables would win over an argument of its name.

-- +goose Up

-- +goose StatementBegin
-- token_user is the user of a personal access token, by the SHA-256 of the token in hex; null if the token is unknown, revoked or
-- expired, and on a host without such tokens. It runs with the rights of its caller.
CREATE FUNCTION daybook.token_user(hash text) RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF $1 IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT t.user_id
        FROM public.personal_access_token t
        WHERE t.token_hash = $1 AND NOT t.revoked AND (t.expires_at IS NULL OR t.expires_at > now()));
EXCEPTION
    WHEN undefined_table THEN
        RETURN NULL;
END
$$;
-- +goose StatementEnd

-- readable_runtime is the runtime, if the caller is a member of its workspace, and no row for anybody else. The caller is a user,
-- or whose token it is. Postgres puts its text in the place of each call, so it costs nothing. It is a function, for a view
-- would keep the host from changing its tables.
--
-- built: the buckets are in the zone that the host has now. Else a rebuild is pending.
CREATE FUNCTION daybook.readable_runtime(caller uuid, token_hash text, runtime uuid)
    RETURNS TABLE (id uuid, workspace_id uuid, user_id uuid, role text, owner_id uuid, host_timezone text, built boolean, timezone text)
    LANGUAGE sql STABLE
AS $$
    SELECT h.id, h.workspace_id, m.user_id, m.role::text, h.owner_id, h.timezone::text, zone.built,
        CASE WHEN zone.built THEN r.timezone ELSE daybook.effective_zone(h.timezone) END
    FROM public.agent_runtime h
    JOIN public.member m
        ON m.workspace_id = h.workspace_id AND m.user_id = (SELECT coalesce($1, daybook.token_user($2)))
    LEFT JOIN daybook.runtime_rollup r ON r.runtime_id = h.id
    CROSS JOIN LATERAL (SELECT coalesce(r.host_timezone = coalesce(h.timezone, 'UTC'), false) AS built) zone
    WHERE h.id = $3
$$;

-- readable_workspace is the workspace, named by its slug or, where slug is null, by its id, if the caller is a member.
CREATE FUNCTION daybook.readable_workspace(caller uuid, token_hash text, slug text, workspace uuid)
    RETURNS TABLE (id uuid, user_id uuid, role text)
    LANGUAGE sql STABLE
AS $$
    SELECT m.workspace_id, m.user_id, m.role::text
    FROM public.member m
    WHERE m.workspace_id = CASE WHEN $3 IS NULL THEN $4 ELSE (SELECT w.id FROM public.workspace w WHERE w.slug = $3) END
      AND m.user_id = (SELECT coalesce($1, daybook.token_user($2)))
$$;

CREATE TABLE daybook.worker_heartbeat (
    worker_id text PRIMARY KEY,
    beat_at   timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE daybook.worker_heartbeat IS 'When each worker process last looked at the queue. On a replica it tells how old the replica is.';

-- +goose Down
DROP TABLE daybook.worker_heartbeat;
DROP FUNCTION daybook.readable_workspace(uuid, text, text, uuid);
DROP FUNCTION daybook.readable_runtime(uuid, text, uuid);
DROP FUNCTION daybook.token_user(text);

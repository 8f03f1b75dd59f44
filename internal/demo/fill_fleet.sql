-- Runtimes and agents. Runtime n belongs to workspace 1 + (n-1) mod workspaces, agent n to runtime
-- 1 + (n-1) mod runtimes; fill_tasks.sql counts on both.
-- The zones are the awkward ones on purpose: offsets of half and three quarters of an hour, clocks that change at
-- midnight (Havana, Cairo), and a change of half an hour (Lord Howe).
WITH runtimes AS (
    INSERT INTO public.agent_runtime (id, workspace_id, daemon_id, name, runtime_mode, provider, status, device_info,
                                      owner_id, visibility, timezone, last_seen_at, created_at, updated_at)
    SELECT md5('demo runtime ' || n)::uuid,
           md5('demo workspace ' || 1 + (n - 1) % @workspaces::int)::uuid,
           'daemon-' || n,
           zone.city || '-' || 1 + (n - 1) / 8,
           CASE WHEN n % 3 = 0 THEN 'cloud' ELSE 'local' END,
           (ARRAY['claude', 'codex', 'gemini'])[1 + n % 3],
           CASE WHEN n % 5 = 0 THEN 'offline' ELSE 'online' END,
           'demo machine ' || n,
           md5('demo user ' || CASE WHEN n % 4 = 3 AND (n - 1) % @workspaces::int = 0 THEN 'member' ELSE 'owner' END)::uuid,
           CASE WHEN n % 2 = 0 THEN 'private' ELSE 'public' END,
           zone.name,
           @until::timestamptz - interval '1 minute' * (n % 10),
           @until::timestamptz - interval '1 day' * @days::int,
           @until::timestamptz - interval '1 day'
    FROM generate_series(1, @runtimes::int) n
    JOIN (VALUES (0, 'UTC', 'central'),
                 (1, 'America/New_York', 'new-york'),
                 (2, 'Asia/Kolkata', 'kolkata'),
                 (3, 'Asia/Kathmandu', 'kathmandu'),
                 (4, 'America/Havana', 'havana'),
                 (5, 'Africa/Cairo', 'cairo'),
                 (6, 'Australia/Lord_Howe', 'lord-howe'),
                 (7, 'Europe/Berlin', 'berlin')) AS zone (position, name, city) ON zone.position = (n - 1) % 8
)
INSERT INTO public.agent (id, workspace_id, runtime_id, name, archived_at)
SELECT md5('demo agent ' || n)::uuid,
       md5('demo workspace ' || 1 + ((n - 1) % @runtimes::int) % @workspaces::int)::uuid,
       md5('demo runtime ' || 1 + (n - 1) % @runtimes::int)::uuid,
       'agent-' || n,
       CASE WHEN n > @runtimes::int AND n % 11 = 0 THEN @until::timestamptz - interval '1 day' END
FROM generate_series(1, @agents::int) n;

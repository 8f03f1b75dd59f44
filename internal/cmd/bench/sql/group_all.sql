-- Every number that the rollups hold, as plain GROUP BYs on the host's tables.
SELECT count(*) FROM (
    SELECT t.runtime_id, (u.created_at AT TIME ZONE r.timezone)::date, u.provider, u.model,
        sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), count(*)
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent_runtime r ON r.id = t.runtime_id
    GROUP BY 1, 2, 3, 4) daily;
SELECT count(*) FROM (
    SELECT t.runtime_id, (u.created_at AT TIME ZONE r.timezone)::date, t.agent_id, u.provider, u.model,
        sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), count(DISTINCT u.task_id)
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent_runtime r ON r.id = t.runtime_id
    GROUP BY 1, 2, 3, 4, 5) by_agent;
SELECT count(*) FROM (
    SELECT t.runtime_id, (u.created_at AT TIME ZONE r.timezone)::date, date_part('hour', u.created_at AT TIME ZONE r.timezone),
        u.provider, u.model,
        sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), count(DISTINCT u.task_id)
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent_runtime r ON r.id = t.runtime_id
    GROUP BY 1, 2, 3, 4, 5) by_hour;
SELECT count(*) FROM (
    SELECT a.workspace_id, (u.created_at AT TIME ZONE 'UTC')::date, i.project_id, t.agent_id, u.provider, u.model,
        sum(u.input_tokens), sum(u.output_tokens), sum(u.cache_read_tokens), sum(u.cache_write_tokens), count(DISTINCT u.task_id)
    FROM public.task_usage u
    JOIN public.agent_task_queue t ON t.id = u.task_id
    JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    GROUP BY 1, 2, 3, 4, 5, 6) workspace;
SELECT count(*) FROM (
    SELECT t.runtime_id, date_part('hour', t.started_at AT TIME ZONE r.timezone), count(*)
    FROM public.agent_task_queue t
    JOIN public.agent_runtime r ON r.id = t.runtime_id
    WHERE t.started_at IS NOT NULL
    GROUP BY 1, 2) activity;
SELECT count(*) FROM (
    SELECT a.workspace_id, (t.completed_at AT TIME ZONE 'UTC')::date, i.project_id, t.agent_id,
        sum(t.completed_at - t.started_at), count(*), count(*) FILTER (WHERE t.status = 'failed')
    FROM public.agent_task_queue t
    JOIN public.agent a ON a.id = t.agent_id
    LEFT JOIN public.issue i ON i.id = t.issue_id
    WHERE t.status IN ('completed', 'failed')
    GROUP BY 1, 2, 3, 4) run_time;

-- The facts of the largest runtime, and nothing else.
CREATE TABLE plain.task_fact AS
SELECT t.id AS task_id, t.runtime_id, t.agent_id, t.started_at
FROM public.agent_task_queue t
WHERE t.started_at IS NOT NULL AND t.runtime_id = (
    SELECT runtime_id FROM public.agent_task_queue WHERE runtime_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC LIMIT 1);

CREATE TABLE plain.task_usage_fact AS
SELECT u.task_id, u.provider, u.model, t.runtime_id, t.agent_id,
    u.input_tokens, u.output_tokens, u.cache_read_tokens, u.cache_write_tokens, u.created_at
FROM plain.task_fact t
JOIN public.task_usage u ON u.task_id = t.task_id;

ANALYZE plain.task_fact, plain.task_usage_fact;

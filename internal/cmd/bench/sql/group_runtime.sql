-- What a rebuild is measured against: the bare GROUP BYs on the runtime's facts in the zone of the rebuild, results counted and thrown
-- away.
SELECT
    (SELECT count(*) FROM (
        SELECT runtime_id, (created_at AT TIME ZONE $1)::date, provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*)
        FROM plain.task_usage_fact GROUP BY 1, 2, 3, 4 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT runtime_id, (created_at AT TIME ZONE $1)::date, agent_id, provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*), count(DISTINCT task_id)
        FROM plain.task_usage_fact GROUP BY 1, 2, 3, 4, 5 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT runtime_id, (created_at AT TIME ZONE $1)::date, extract(hour FROM created_at AT TIME ZONE $1), provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*), count(DISTINCT task_id)
        FROM plain.task_usage_fact GROUP BY 1, 2, 3, 4, 5 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT runtime_id, extract(hour FROM started_at AT TIME ZONE $1), count(*)
        FROM plain.task_fact GROUP BY 1, 2 OFFSET 0) x)

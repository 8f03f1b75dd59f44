-- What a rebuild is measured against: the bare GROUP BYs on the runtime's facts in the zone of the rebuild, results counted and thrown
-- away.
SELECT
    (SELECT count(*) FROM (
        SELECT (created_at AT TIME ZONE $2)::date, provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*)
        FROM daybook.task_usage_fact WHERE runtime_id = $1 GROUP BY 1, 2, 3 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT (created_at AT TIME ZONE $2)::date, agent_id, provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*), count(DISTINCT task_id)
        FROM daybook.task_usage_fact WHERE runtime_id = $1 GROUP BY 1, 2, 3, 4 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT (created_at AT TIME ZONE $2)::date, extract(hour FROM created_at AT TIME ZONE $2), provider, model,
            sum(input_tokens), sum(output_tokens), sum(cache_read_tokens), sum(cache_write_tokens), count(*), count(DISTINCT task_id)
        FROM daybook.task_usage_fact WHERE runtime_id = $1 GROUP BY 1, 2, 3, 4 OFFSET 0) x)
  + (SELECT count(*) FROM (
        SELECT extract(hour FROM started_at AT TIME ZONE $2), count(*)
        FROM daybook.task_fact WHERE runtime_id = $1 GROUP BY 1 OFFSET 0) x)

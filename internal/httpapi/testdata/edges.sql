-- The first and the last microsecond of days, with how many days ago they are in the zone $1 and in UTC. It finds them by looking at every
-- quarter of an hour, since a day need not begin at midnight, and a midnight can come twice. The days are $2 days ago, those on which
-- clocks are changed, and their neighbours. Then some moments that are always in the window.
WITH quarter AS MATERIALIZED (
    SELECT i, (now() AT TIME ZONE $1)::date - (i AT TIME ZONE $1)::date AS ago
    FROM generate_series(date_trunc('hour', now()) - interval '9000 hours', now() + interval '100 hours', interval '15 minutes') i
), day AS (
    SELECT ago, min(i) AS first, max(i) + interval '15 minutes' - interval '1 microsecond' AS last, count(*) AS quarters FROM quarter GROUP BY 1
), chosen AS (
    SELECT unnest($2::integer[]) AS ago
    UNION SELECT ago + unnest('{-1,0,1}'::integer[]) FROM day WHERE quarters <> 96 AND ago BETWEEN 1 AND 364
), moment AS (
    SELECT first AS at FROM day JOIN chosen USING (ago)
    UNION SELECT last FROM day JOIN chosen USING (ago)
    UNION SELECT unnest(ARRAY[now(), now() + interval '1000 days', '9026-01-01 00:00Z'])
)
SELECT at, (now() AT TIME ZONE $1)::date - (at AT TIME ZONE $1)::date AS local_ago,
    (now() AT TIME ZONE 'UTC')::date - (at AT TIME ZONE 'UTC')::date AS utc_ago,
    1::bigint << (row_number() OVER (ORDER BY at) - 1)::integer AS bit
FROM moment

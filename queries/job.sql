-- name: ListQueueDepths :many
-- Jobs of River that are not done, by queue and state.
SELECT j.queue, j.state::text AS state, count(*) AS jobs
FROM daybook.river_job j
WHERE j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled')
GROUP BY j.queue, j.state
ORDER BY j.queue, j.state;

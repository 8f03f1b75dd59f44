-- How often a worker writes its sign of life, so that one that does it seldom is not taken for dead.

-- +goose Up
ALTER TABLE daybook.worker_heartbeat ADD COLUMN period interval NOT NULL DEFAULT interval '1 second';

-- +goose Down
ALTER TABLE daybook.worker_heartbeat DROP COLUMN period;

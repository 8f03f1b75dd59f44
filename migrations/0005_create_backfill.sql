-- What `worker backfill` has to do and how far it is, so that it can be stopped and go on.

-- +goose Up

-- Unlogged: after a crash of Postgres the list is empty and is made again.
CREATE UNLOGGED TABLE daybook.backfill_task (
    lane    smallint NOT NULL,
    seq     bigint NOT NULL,
    task_id uuid NOT NULL,
    PRIMARY KEY (lane, seq)
);
COMMENT ON TABLE daybook.backfill_task IS 'The tasks to count, in an order in which neighbours share buckets. A lane is a set of shards.';

CREATE TABLE daybook.backfill_lane (
    lane smallint PRIMARY KEY,
    seq  bigint NOT NULL,
    done bigint NOT NULL
);
COMMENT ON TABLE daybook.backfill_lane IS 'Progress: the last seq of backfill_task that was counted, and how many tasks.';

-- +goose Down
DROP TABLE daybook.backfill_lane;
DROP TABLE daybook.backfill_task;

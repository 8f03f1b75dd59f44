-- The generation of a fact of usage, for the reason of 0012: a new version that needs an entry in the index is compared with all that have the
-- same key. A fact is written much less often than a bucket, so its generation rises sooner. Drains write facts under the lock of their shard, so
-- no two make one at the same time.

-- +goose Up

CREATE FUNCTION daybook.writes_of_fact_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 8::smallint';
COMMENT ON FUNCTION daybook.writes_of_fact_generation() IS 'After how many writes of a fact its generation rises.';

ALTER TABLE daybook.task_usage_fact ADD COLUMN generation integer NOT NULL DEFAULT 0, ADD COLUMN writes smallint NOT NULL DEFAULT 0;
COMMENT ON COLUMN daybook.task_usage_fact.generation IS 'Rises with the writes. It means nothing to readers.';
COMMENT ON COLUMN daybook.task_usage_fact.writes IS 'How often the row was written in this generation.';
ALTER TABLE daybook.task_usage_fact DROP CONSTRAINT task_usage_fact_pkey,
    ADD PRIMARY KEY (task_id, provider, model, generation);

-- +goose Down
ALTER TABLE daybook.task_usage_fact DROP CONSTRAINT task_usage_fact_pkey;
ALTER TABLE daybook.task_usage_fact DROP COLUMN generation, DROP COLUMN writes,
    ADD PRIMARY KEY (task_id, provider, model);
DROP FUNCTION daybook.writes_of_fact_generation();

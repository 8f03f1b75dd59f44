-- What verifications found, so that they can go round, and so that metrics can tell.

-- +goose Up

CREATE TABLE daybook.verification (
    unit         uuid PRIMARY KEY,
    attempted_at timestamptz NOT NULL,
    verified_at  timestamptz,
    differences  jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE daybook.verification IS 'The last verification of each unit: a runtime, or with the nil UUID all that has no runtime, which is tasks without one and the rollups of workspaces.';
COMMENT ON COLUMN daybook.verification.differences IS 'The number of differences by table; empty if there were none.';

-- +goose Down
DROP TABLE daybook.verification;

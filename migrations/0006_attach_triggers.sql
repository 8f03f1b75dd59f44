-- Puts the triggers on the host's tables. If a long transaction holds one of them, this gives up, and the host has waited for
-- no more than the timeout for each table.

-- +goose Up
SET LOCAL lock_timeout = '100ms';
SELECT daybook.attach();

-- +goose Down
SET LOCAL lock_timeout = '100ms';
SELECT daybook.detach();

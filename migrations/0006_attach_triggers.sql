-- Puts the triggers on the host's tables. If a long transaction holds one of them, this gives up at once and the host
-- has waited for no more than the timeout.

-- +goose Up
SET LOCAL lock_timeout = '500ms';
SELECT daybook.attach();

-- +goose Down
SET LOCAL lock_timeout = '500ms';
SELECT daybook.detach();

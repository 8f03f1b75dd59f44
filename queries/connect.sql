-- What is asked of a connection itself.

-- name: GetBackendPID :one
SELECT pg_backend_pid();

-- name: ApplySettings :exec
-- Until the end of the transaction.
SELECT set_config(s.name, s.value, true) FROM (SELECT unnest(@names::text[]) AS name, unnest(@setting_values::text[]) AS value) s;

-- The transaction stands idle while others of the same process migrate; a server-wide timeout must not end it.
WITH settings AS MATERIALIZED (SELECT set_config('idle_in_transaction_session_timeout', '0', true))
SELECT pg_advisory_xact_lock($1) FROM settings

-- The folder of the server's own binaries. Only a superuser may ask.
SELECT setting FROM pg_catalog.pg_config WHERE name = 'BINDIR'

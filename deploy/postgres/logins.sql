-- Makes the logins of workers and apis, members of the groups that `worker migrate up --roles` made. Run it once, as the role that migrated or as an
-- administrator:
--
--   WORKER_PASSWORD=... API_PASSWORD=... psql "$OWNER_URL" -1 -v ON_ERROR_STOP=1 -f logins.sql
--
-- The groups belong to the cluster, so two databases of a cluster share them. Give the logins other names for each database then, and take the right
-- to connect from everybody else, as below: a login of the one must not work in the other.
\getenv worker_password WORKER_PASSWORD
\getenv api_password API_PASSWORD

CREATE ROLE usage_worker LOGIN PASSWORD :'worker_password' IN ROLE daybook_worker;
CREATE ROLE usage_api LOGIN PASSWORD :'api_password' IN ROLE daybook_api, daybook_metrics;

GRANT CONNECT ON DATABASE :"DBNAME" TO usage_worker, usage_api;

-- Everybody may connect to every database by default. This ends it; the host's own roles need the right by name then:
--
--   GRANT CONNECT ON DATABASE :"DBNAME" TO host_role;
--   REVOKE CONNECT ON DATABASE :"DBNAME" FROM PUBLIC;

-- For an api that may change runtimes:
--
--   \getenv write_password WRITE_PASSWORD
--   CREATE ROLE usage_changes LOGIN PASSWORD :'write_password' IN ROLE daybook_api_write;
--   GRANT CONNECT ON DATABASE :"DBNAME" TO usage_changes;

-- Takes away what logins.sql made, after `worker migrate down`.
REVOKE ALL ON DATABASE :"DBNAME" FROM usage_worker, usage_api;
DROP ROLE usage_worker, usage_api;

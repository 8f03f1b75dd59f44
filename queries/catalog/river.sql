-- Not a migration: the part of River's table that the queries use. River makes the table itself.
CREATE TABLE daybook.river_job (queue text NOT NULL, state text NOT NULL);

-- While a transaction of the host was open for minutes, a drain still passed more and more versions of one generation: see the migrations 0012 and 0014.

-- +goose Up
CREATE OR REPLACE FUNCTION daybook.writes_per_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 8::smallint';
CREATE OR REPLACE FUNCTION daybook.writes_of_fact_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 4::smallint';

-- +goose Down
CREATE OR REPLACE FUNCTION daybook.writes_per_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 16::smallint';
CREATE OR REPLACE FUNCTION daybook.writes_of_fact_generation() RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS 'SELECT 8::smallint';

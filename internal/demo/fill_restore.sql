-- Puts back what fill_lift.sql took away, the keys that others refer to first.
SET LOCAL maintenance_work_mem = '256MB';

DO $$
DECLARE
    l record;
BEGIN
    FOR l IN SELECT * FROM demo_lifted ORDER BY step, lift LOOP
        EXECUTE l.restore;
    END LOOP;
END
$$;

DROP TABLE demo_lifted;

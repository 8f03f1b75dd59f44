-- One line for each object of the database that is not part of Postgres, for each of its definitions and privileges, and for
-- the rows of each table in public. Nothing about other databases: they change while this one is looked at.
WITH object AS (
    SELECT classid, objid FROM pg_depend
    UNION
    SELECT refclassid, refobjid FROM pg_depend
    UNION
    SELECT classid, objid FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
), relation AS (
    SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
), routine AS (
    SELECT p.* FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname <> 'information_schema'
)
SELECT line FROM (
    SELECT format('object %s %s', i.type, i.identity) AS line
    FROM object o, pg_identify_object(o.classid, o.objid, 0) i
    WHERE o.objid >= 16384 AND i.identity IS NOT NULL
    UNION ALL
    SELECT format('shared dependency of %s %s on %s, %s', d.classid::regclass, d.objid, r.rolname, d.deptype)
    FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 'pg_authid'::regclass AND r.oid = d.refobjid
    WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT format('database %s %s', datdba::regrole, datacl) FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT format('setting %s %s', setrole, setconfig) FROM pg_db_role_setting
    WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT format('schema %s %s %s', nspname, nspowner::regrole, nspacl) FROM pg_namespace
    WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT format('relation %s %s %s %s %s %s', oid::regclass, relkind, relpersistence, relowner::regrole, relacl, reloptions)
    FROM relation
    UNION ALL
    SELECT format('column %s.%s %s %s %s %s %s', r.oid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull, a.attacl, pg_get_expr(d.adbin, d.adrelid))
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0
    UNION ALL
    SELECT format('constraint %s %s %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
    FROM pg_constraint c JOIN relation r ON r.oid = c.conrelid
    UNION ALL
    SELECT format('index %s', pg_get_indexdef(i.indexrelid)) FROM pg_index i JOIN relation r ON r.oid = i.indrelid
    UNION ALL
    SELECT format('trigger %s %s', t.tgenabled, pg_get_triggerdef(t.oid)) FROM pg_trigger t
    UNION ALL
    SELECT format('routine %s %s %s', proowner::regrole, proacl, pg_get_functiondef(oid)) FROM routine WHERE prokind IN ('f', 'p')
    UNION ALL
    SELECT format('default privileges %s', d) FROM pg_default_acl d
    UNION ALL
    SELECT format('rows of %s: %s', oid::regclass, query_to_xml(format('SELECT * FROM %s AS r ORDER BY r', oid::regclass), true, true, ''))
    FROM relation WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
) lines
ORDER BY line COLLATE "C"

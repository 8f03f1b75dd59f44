-- The roles of CreateRoles, unless another database of the cluster uses them or this role may not drop them. Where it may not act as they can,
-- they stay with what was granted to them here: see docs/roles.md.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['daybook_owner', 'daybook_worker', 'daybook_api', 'daybook_api_write', 'daybook_metrics'] LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = name);
        BEGIN
            EXECUTE format('GRANT %I TO %I', name, current_user);
            EXECUTE format('DROP OWNED BY %I', name);
            -- A block of its own: what is dropped stays dropped when another database keeps the role.
            BEGIN
                EXECUTE format('DROP ROLE %I', name);
            EXCEPTION
                WHEN dependent_objects_still_exist OR insufficient_privilege OR undefined_object OR internal_error OR object_in_use THEN
                    NULL;
            END;
        EXCEPTION
            WHEN insufficient_privilege OR undefined_object OR internal_error THEN
                NULL;
        END;
    END LOOP;
END
$$

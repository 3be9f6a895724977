-- Runs last in an uninstall: extensions and roles, unless others use them.
do $$
declare
    extension text;
begin
    for extension in
        select e.extname
        from pg_catalog.pg_extension e
        where e.extname in ('plpython3u', 'vector')
          and pg_catalog.obj_description(e.oid, 'pg_extension') like '%(created by Pageformer)'
    loop
        begin
            execute pg_catalog.format('drop extension %I', extension);
        exception when dependent_objects_still_exist then
            raise notice 'kept the extension %: other objects use it', extension;
        end;
    end loop;
end
$$;

do $$
declare
    role text;
begin
    lock table pg_catalog.pg_authid in share row exclusive mode;
    for role in
        select r.rolname
        from pg_catalog.pg_roles r
        where r.rolname in ('pageformer_owner', 'pageformer_admin', 'pageformer_reader',
                            'pageformer_user')
    loop
        begin
            execute pg_catalog.format('drop role %I', role);
        exception when dependent_objects_still_exist then
            raise notice 'kept the role %: it is used elsewhere', role;
        end;
    end loop;
end
$$;

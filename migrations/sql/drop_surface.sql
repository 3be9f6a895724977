-- Drops our triggers, views and functions, which the next install makes again. Without cascade: a
-- user's view, index or column default that needs one of them stops it, and the server says which.
do $$
declare
    dropping text;
begin
    for dropping in
        select pg_catalog.format('drop trigger %I on %s', t.tgname, t.tgrelid::pg_catalog.regclass)
        from pg_catalog.pg_trigger t
        join pg_catalog.pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'pageformer'::regnamespace and not t.tgisinternal
        union all
        select 'drop view ' || pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ')
        from pg_catalog.pg_class c
        where c.relnamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
          and c.relkind = 'v'
          and not exists (
              select from pg_catalog.pg_depend d
              join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname <> 'pageformer'
              where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
        having pg_catalog.count(*) > 0
        union all
        select 'drop routine ' || pg_catalog.string_agg(p.oid::pg_catalog.regprocedure::text, ', ')
        from pg_catalog.pg_proc p
        where p.pronamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
          and not exists (
              select from pg_catalog.pg_depend d
              join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname <> 'pageformer'
              where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
        having pg_catalog.count(*) > 0
    loop
        execute dropping;
    end loop;
end
$$;

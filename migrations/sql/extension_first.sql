\echo Use "create extension pageformer cascade" to load this file. \quit

-- Two things that a control file cannot ask for: no install by other means, and a Python that
-- finds the package. The extension would be there without, and no function of it would work.
do $$
declare
    other text;
begin
    select n.nspname into other
    from pg_catalog.pg_namespace n
    where n.nspname in ('pageformer', 'pageformer_op')
      and not exists (
          select
          from pg_catalog.pg_depend d
          join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname = 'pageformer'
          where d.classid = 'pg_namespace'::regclass and d.objid = n.oid and d.deptype = 'e')
    order by n.nspname;
    if found then
        raise exception using
            errcode = 'duplicate_schema',
            message = pg_catalog.format('this database has a schema %I already', other),
            hint = 'Where pageformer migrate made it, go on with that: it updates what it made.';
    end if;
end
$$;

do $python$
try:
    from pageformer.udfs import server
except ImportError as error:
    plpy.error(
        f"the Python of this server cannot import Pageformer: {error}",
        hint="On the server: pageformer migrate --site FOLDER; then restart PostgreSQL with the "
        "PYTHONPATH that it prints. pageformer doctor shows what is missing.",
        sqlstate="55000",
    )
$python$ language plpython3u;

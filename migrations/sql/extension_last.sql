-- pg_dump carries the rows of all tables, and where their numbers go on; the revision belongs to
-- the script.
do $$
declare
    carried regclass;
begin
    for carried in
        select c.oid
        from pg_catalog.pg_class c
        where c.relnamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
          and c.relkind in ('r', 'S')
          and c.relname <> 'alembic_version'
    loop
        perform pg_catalog.pg_extension_config_dump(carried, '');
    end loop;
end
$$;

-- pg_dump leaves out the privileges that a script gave; those from before an object came to its owner
-- are noted under another name, until the next grant.
grant all on all tables in schema pageformer, pageformer_op to pageformer_owner;
grant all on all sequences in schema pageformer, pageformer_op to pageformer_owner;
grant all on all routines in schema pageformer, pageformer_op to pageformer_owner;

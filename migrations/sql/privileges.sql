-- Runs after udfs/sql, at every install: pageformer_owner owns all that stands in our schemas, and who
-- may do what with the tables. Who may call a function stands beside the function.
do $$
declare
    alteration text;
begin
    for alteration in
        select pg_catalog.format('alter schema %I', nspname)
        from pg_catalog.pg_namespace
        where nspname in ('pageformer', 'pageformer_op')
        union all
        select pg_catalog.format('alter table %s', c.oid::pg_catalog.regclass)
        from pg_catalog.pg_class c
        where c.relnamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
          and c.relkind in ('r', 'v')
          and not exists (
              select from pg_catalog.pg_depend d
              join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname <> 'pageformer'
              where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
        union all
        select pg_catalog.format('alter routine %s', p.oid::pg_catalog.regprocedure)
        from pg_catalog.pg_proc p
        where p.pronamespace in ('pageformer'::regnamespace, 'pageformer_op'::regnamespace)
          and not exists (
              select from pg_catalog.pg_depend d
              join pg_catalog.pg_extension e on e.oid = d.refobjid and e.extname <> 'pageformer'
              where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
    loop
        execute alteration || ' owner to pageformer_owner';
    end loop;
end
$$;

grant usage on schema pageformer, pageformer_op to public;

-- A grant of its own keeps the role from being dropped by an uninstall in another database.
grant usage on schema pageformer to pageformer_user;

-- Names and grants are looked up by whoever calls encode; neither reveals a weight.
grant select on pageformer.model, pageformer.model_grant to public;
grant select (id, model_id, label, hash, config, tokenizer_hash, format, block_side)
    on pageformer.version to public;
grant select (id, version_id, name, label, deployed, hash, kind, config)
    on pageformer.task to public;

grant select on pageformer.version, pageformer.asset, pageformer.tensor, pageformer.block,
    pageformer.placement, pageformer.page, pageformer.task, pageformer.task_part,
    pageformer.task_array, pageformer.task_page
    to pageformer_reader;
grant insert, update, delete on pageformer.model, pageformer.version, pageformer.asset,
    pageformer.tensor, pageformer.block, pageformer.placement, pageformer.page,
    pageformer.model_grant, pageformer.task, pageformer.task_part, pageformer.task_array,
    pageformer.task_page
    to pageformer_admin;

-- Row security lets each role see and write what belongs to its own tables.
grant select, insert, update, delete on pageformer.embedded_column, pageformer.embedded_row to public;

-- name: prepare
create schema if not exists demo;
create table if not exists demo.description (
    id integer generated always as identity primary key,
    object text not null,
    body text not null,
    embedding vector(384)
);
create table if not exists demo.loaded (version_hash text primary key)

-- name: collect
insert into demo.description (object, body)
select pg_catalog.pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description
from pg_catalog.pg_description d
where not exists (select from demo.description)

-- name: deployed
select version, hash, dimension, parameters, parameter_bytes
from pageformer.model_versions
where model = $1 and deployed

-- name: remember_loaded
insert into demo.loaded (version_hash) values ($1) on conflict do nothing

-- name: count
select count(*)::integer as everything, count(embedding)::integer as encoded
from demo.description

-- name: encode_some
with batch as (
    select pg_catalog.array_agg(id) as ids, pg_catalog.array_agg(body) as bodies
    from (
        select id, body from demo.description
        where embedding is null order by pg_catalog.length(body), id limit $2
    ) shortest
)
update demo.description d
set embedding = encoded.embedding
from batch, unnest(batch.ids, pageformer.encode_batch(batch.bodies, $1)) encoded (id, embedding)
where d.id = encoded.id

-- name: index
create index if not exists description_embedding_idx
    on demo.description using hnsw (embedding vector_cosine_ops);
analyze demo.description

-- name: nearest
select object, body, embedding <=> encode({question}, 'minilm') as distance
from demo.description
order by distance
limit 4

-- name: made
select pg_catalog.to_regclass('demo.loaded') is not null as found

-- name: loaded_versions
select v.model, v.version
from demo.loaded l
join pageformer.model_versions v on v.hash = l.version_hash
where v.model = $1

-- name: drop
do $$
begin
    drop table demo.description, demo.loaded;
    drop schema demo;
exception when dependent_objects_still_exist then
    raise notice 'kept schema demo: others use it';
end
$$

-- name: others_in_cluster
select pg_catalog.format('database %I', datname) as object
from pg_catalog.pg_database
where datname not in ('postgres', 'template0', 'template1', 'pageformer')
union all
select pg_catalog.format('role %I', rolname)
from pg_catalog.pg_roles
where rolname <> 'postgres' and rolname !~ '^(pg|pageformer)_'
union all
select pg_catalog.format('tablespace %I', spcname)
from pg_catalog.pg_tablespace
where spcname not in ('pg_default', 'pg_global')
order by 1

-- name: others_in_database
with namespace as (
    select oid, nspname
    from pg_catalog.pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'pageformer', 'pageformer_op')
),
made (classid, objid) as (
    select 'pg_catalog.pg_class'::regclass, c.oid
    from pg_catalog.pg_class c join namespace n on n.oid = c.relnamespace
    union all
    select 'pg_catalog.pg_proc'::regclass, p.oid
    from pg_catalog.pg_proc p join namespace n on n.oid = p.pronamespace
    union all
    select 'pg_catalog.pg_type'::regclass, t.oid
    from pg_catalog.pg_type t join namespace n on n.oid = t.typnamespace
    where t.typrelid = 0 and t.typcategory <> 'A'  -- not of a table, not an array
    union all
    select 'pg_catalog.pg_namespace'::regclass, n.oid from namespace n where n.nspname <> 'public'
    union all
    select 'pg_catalog.pg_largeobject'::regclass, o.oid from pg_catalog.pg_largeobject_metadata o
)
select pg_catalog.pg_describe_object(m.classid, m.objid, 0) as object
from made m
where not exists (
    select from pg_catalog.pg_depend d
    where d.classid = m.classid and d.objid = m.objid and d.deptype = 'e'
)
order by 1

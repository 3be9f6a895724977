-- name: settings
set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC';
set bytea_output = 'hex'; set extra_float_digits = 1

-- name: table
select c.oid::integer as oid, n.nspname::text as schema, c.relname::text as name,
    c.relkind in ('r', 'p') as holds_rows,
    pageformer.key_columns(c.oid)::text[] as keys,
    array(
        select pg_catalog.format_type(a.atttypid, a.atttypmod)
        from unnest(pageformer.key_columns(c.oid)) with ordinality k (name, place)
        join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = k.name
        order by k.place) as key_types
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.oid = pg_catalog.to_regclass($1::text)

-- name: partitions
select n.nspname::text as schema, r.relname::text as name
from pageformer.embedded_column c
cross join lateral pg_catalog.pg_partition_tree(c.relation) p
join pg_catalog.pg_class r on r.oid = p.relid
join pg_catalog.pg_namespace n on n.oid = r.relnamespace
where c.id = $1::integer and p.isleaf
order by r.oid

-- name: column
select t.typname::text as type, a.attgenerated <> '' as generated,
    nullif(a.atttypmod, -1) as dimension
from pg_catalog.pg_attribute a
join pg_catalog.pg_type t on t.oid = a.atttypid
where a.attrelid = $1::oid and a.attname = $2::text and a.attnum > 0 and not a.attisdropped

-- name: deployed
select m.id, v.hash, v.label, (v.config::json ->> 'hidden')::integer as dimension
from pageformer.model m
join pageformer.version v on v.id = m.deployed_id
where m.name = $1::text

-- name: known
select c.relation::text as "table", c.input::text as input, c.output::text as output,
    m.name as model
from pageformer.embedded_column c
join pageformer.model m on m.id = c.model_id
join pg_catalog.pg_class r on r.oid = c.relation
where pg_catalog.pg_has_role(r.relowner, 'member')
    and ($1::text is null or c.relation = pg_catalog.to_regclass($1::text))
    and ($2::text is null or c.output = $2::text)
order by c.relation::text, c.output

-- name: register
insert into pageformer.embedded_column as c (relation, input, output, model_id)
values ($1::oid, $2::text, $3::text, $4::integer)
on conflict (relation, output) do update set input = excluded.input, model_id = excluded.model_id
returning id

-- name: forget_other_input
delete from pageformer.embedded_column c
where c.relation = $1::oid and c.output = $3::text and c.input <> $2::text

-- name: one_at_a_time
select pg_catalog.pg_try_advisory_lock(
    pg_catalog.hashtext('pageformer.embed')::integer, $1::integer) as alone

-- name: count
select count(*) as texts
from {table} as {name}
where ({where}) and {input} is not null and ({output} is null or (
    select r.version_hash from pageformer.embedded_row r
    where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)

-- name: next_batch
select {key} as key
from {table} as {name}
where ({where}) and {input} is not null and ({output} is null or (
    select r.version_hash from pageformer.embedded_row r
    where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)
    and ($3::boolean or ({keys}) > ({after}))
order by {keys}
limit $4::integer

-- name: encode_batch
with batch as materialized (
    select {named_keys}, {key} as pageformer_key, {input}::text as pageformer_input
    from {table} as {name}
    where ({where}) and {input} is not null and ({output} is null or (
        select r.version_hash from pageformer.embedded_row r
        where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)
        and ($3::boolean or ({keys}) > ({after})) and ({keys}) <= ({until})
    for no key update
),
numbered as materialized (
    select b.*, pg_catalog.row_number() over (order by pageformer_key) as pageformer_place
    from batch b
),
texts as (
    select pg_catalog.array_agg(pageformer_input order by pageformer_place) as bodies
    from numbered having count(*) > 0
),
encoded as materialized (
    select e.embedding, e.place
    from texts, unnest(pageformer.encode_batch(texts.bodies, $4::text))
        with ordinality e (embedding, place)
),
written as (
    update {table} as {name}
    set {output_name} = e.embedding
    from numbered b join encoded e on e.place = b.pageformer_place
    where ({keys}) = ({batch_keys})
    returning b.pageformer_key as key
)
insert into pageformer.embedded_row as r (column_id, key, version_hash)
select $1::integer, w.key, $2::bytea from written w
on conflict (column_id, key) do update set version_hash = excluded.version_hash

-- name: follow
create or replace trigger {changed} after update on {table} for each row
when (({old_values}) is distinct from ({new_values}))
execute function pageformer.forget_embedding({output});
create or replace trigger {gone} after delete on {table} for each row
execute function pageformer.forget_embedding({output})

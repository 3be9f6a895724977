-- name: settings
set plan_cache_mode = force_custom_plan

-- name: name_worker
select pg_catalog.set_config('application_name', $1::text, false)

-- name: compute
select m.compute from pageformer.model m join pageformer.embedded_column c on c.model_id = m.id
where c.id = $1::integer

-- name: make_item
create temporary table pageformer_item on commit delete rows as
select 0::bigint as pageformer_place, {key} as pageformer_key, ''::bytea as pageformer_digest,
    {named_keys}
from {table} as {name} with no data

-- name: make_vectors
create temporary table pageformer_vectors on commit delete rows as
select 0::integer as pageformer_place, {output} as pageformer_vector
from {table} as {name} with no data

-- name: take
with waiting as (
    select {named_keys}, {key} as pageformer_key, {input}::text as pageformer_input
    from {table} as {name}
    where ({where}) and {input} is not null and ({output} is null or (
        select r.version_hash from pageformer.embedded_row r
        where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)
        and ($3::boolean or ({keys}) > ({after})) and ({keys}) <= ({until})
),
numbered as materialized (
    select w.*, pg_catalog.row_number() over (order by pageformer_key) as pageformer_place
    from waiting w
),
kept as (
    insert into pg_temp.pageformer_item
    select b.pageformer_place, b.pageformer_key,
        pg_catalog.sha256(pg_catalog.convert_to(b.pageformer_input, 'UTF8')), {batch_keys}
    from numbered b
)
select pageformer_input from numbered order by pageformer_place

-- name: stage
copy pg_temp.pageformer_vectors (pageformer_place, pageformer_vector) from stdin (format binary)

-- name: lock
select count(*) from (
    select from {table} as {name}, pg_temp.pageformer_item b
    where ({keys}) = ({batch_keys})
        and ($3::boolean or ({keys}) > ({after})) and ({keys}) <= ({until})
        and ({output} is null or (
            select r.version_hash from pageformer.embedded_row r
            where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)
    order by {keys}
    for no key update of {name}
) locked

-- name: write
with written as (
    update {table} as {name}
    set {output_name} = v.pageformer_vector
    from pg_temp.pageformer_item b
    join pg_temp.pageformer_vectors v using (pageformer_place)
    where ({keys}) = ({batch_keys})
        and ($3::boolean or ({keys}) > ({after})) and ({keys}) <= ({until})
        and pg_catalog.sha256(pg_catalog.convert_to({input}::text, 'UTF8')) = b.pageformer_digest
        and ({output} is null or (
            select r.version_hash from pageformer.embedded_row r
            where r.column_id = $1::integer and r.key = {key}) is distinct from $2::bytea)
    returning b.pageformer_key as key
)
insert into pageformer.embedded_row as r (column_id, key, version_hash)
select $1::integer, w.key, $2::bytea from written w
on conflict (column_id, key) do update set version_hash = excluded.version_hash

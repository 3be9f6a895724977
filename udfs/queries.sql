-- name: pulse
select 1

-- name: as_owner
select pageformer.as_owner($1::bytea)

-- name: standpoint
-- seen: equal for two calls of one role to whom the same rows are visible. Null where a snapshot does
-- not tell: it leaves out what a transaction changed itself and, on a standby, who else is at work.
select
    case when pg_catalog.pg_current_xact_id_if_assigned() is null
        and not pg_catalog.pg_is_in_recovery()
    then pg_catalog.pg_current_snapshot()::text || ' ' || current_user::text end as seen,
    pg_catalog.statement_timestamp()::text as statement

-- name: resolve
select v.id, v.hash, u.name, v.label, u.compute,
    (select f.settings from pageformer.settings_in_force f) as settings
from pageformer.usable_model u
join pageformer.version v on v.id = u.deployed_id
where u.name = $1::text

-- name: resolve_pinned
select v.id, v.hash, u.name, v.label, u.compute,
    (select f.settings from pageformer.settings_in_force f) as settings
from pageformer.usable_model u
join pageformer.version v on v.model_id = u.id
where u.name = $1::text
    and (v.label = $2::text
         or (pg_catalog.length($2::text) >= 6
             and pg_catalog.starts_with(pg_catalog.encode(v.hash, 'hex'), $2::text)
             and not exists (
                 select from pageformer.version l where l.model_id = u.id and l.label = $2::text)))

-- name: model_not_granted
select m.name
from pageformer.model m
where m.name = $1::text and not exists (select from pageformer.usable_model u where u.id = m.id)

-- name: names
select m.name, v.label, v.id = m.deployed_id as deployed
from pageformer.model m
left join pageformer.version v on v.model_id = m.id
order by m.name, v.id

-- name: settings
select name, value from pageformer.setting

-- name: database
select oid::bigint, datname::text as name from pg_catalog.pg_database where datname = pg_catalog.current_database()

-- name: serving_place
select database, name, data_directory, backend, cache_folder, cache_limit, cache_policy
from pageformer.serving_place()

-- name: usable_versions
select distinct on (v.hash) pg_catalog.encode(v.hash, 'hex') as hash, m.name as model, v.label
from pageformer.usable_model m
join pageformer.version v on v.model_id = m.id
order by v.hash, v.id

-- name: version_of_hash
select id from pageformer.version where hash = $1::bytea order by id limit 1

-- name: version
select v.hash, v.config, v.block_side, v.tokenizer_hash, a.hash is not null as tokenizer_is_here
from pageformer.version v
left join pageformer.asset a on a.hash = v.tokenizer_hash
where v.id = $1::integer

-- name: tokenizer
select data from pageformer.asset where hash = $1::bytea

-- name: describe
select v.format, v.parameters, v.source, pg_catalog.encode(v.tokenizer_hash, 'hex') as tokenizer
from pageformer.version v
where v.id = $1::integer

-- name: tensors
select name, shape, grid, bundle_offset
from pageformer.tensor
where version_id = $1::integer

-- name: places
select distinct on (p.block_hash) p.block_hash, p.page_hash, g.format,
    p.slot * g.block_rows * g.block_cols as start, g.block_rows * g.block_cols as elements,
    pg_catalog.count(*) over (partition by p.page_hash) as used
from pageformer.placement p
join pageformer.page g on g.hash = p.page_hash
where p.block_hash in (
    select pg_catalog.unnest(t.grid) from pageformer.tensor t where t.version_id = $1::integer
)
order by p.block_hash, used desc, p.page_hash

-- name: page
select data from pageformer.page where hash = $1::bytea

-- name: blocks
select distinct on (p.block_hash)
    p.block_hash, g.format, g.block_rows, g.block_cols,
    pg_catalog.substring(g.data, p.slot * size.bytes + 1, size.bytes) as data
from pageformer.placement p
join pageformer.page g on g.hash = p.page_hash and g.format <> 'delta'
cross join lateral (
    select g.block_rows * g.block_cols * case g.format when 'f32' then 4 else 2 end
) size (bytes)
where p.block_hash = any($1::bytea[])
order by p.block_hash, p.page_hash

-- name: resolve_task
select t.id, t.hash, t.name, t.label, t.kind
from pageformer.task t
where t.version_id = $1::integer
    and t.name = $2::text
    and (t.label = $3::text or ($3::text = '' and t.deployed))

-- name: task_names
select t.name, t.label, v.label as version, t.version_id
from pageformer.task t
join pageformer.version v on v.id = t.version_id
join pageformer.version b on b.model_id = v.model_id
where b.id = $1::integer
order by t.name, v.id, t.id

-- name: task_of_hash
select t.id
from pageformer.task t
join pageformer.version v on v.id = t.version_id
where v.hash = $1::bytea and t.hash = $2::bytea
order by t.id
limit 1

-- name: task
select t.config, t.hash, t.name, t.label
from pageformer.task t
where t.id = $1::integer

-- name: task_arrays
select p.name, a.hash, a.format, a.shape, a.page_hash, a.place, a.bytes
from pageformer.task_part p
join pageformer.task_array a on a.hash = p.array_hash
where p.task_id = $1::integer
order by p.name

-- name: task_page
select data from pageformer.task_page where hash = $1::bytea

-- name: current_role
select current_user::text as name

-- name: database_exists
select exists (select from pg_catalog.pg_database where datname = $1) as found

-- name: installed
select case when pg_catalog.to_regclass('pageformer.alembic_version') is not null
    then pg_catalog.current_setting('pageformer.installed', true) end as fingerprint

-- name: models
select model, version, case when deployed then 'yes' else '' end as deployed,
    pg_catalog.left(hash, 12) as hash, family, dimension::text as dimension,
    parameters::text as parameters, pg_catalog.to_char(loaded_at, 'YYYY-MM-DD HH24:MI') as loaded
from pageformer.model_versions
order by model, loaded_at, version

-- name: deployed_hash
select v.hash
from pageformer.model m
join pageformer.version v on v.id = m.deployed_id
where m.name = $1::text

-- name: model_names
select model from pageformer.models order by model

-- name: versions
select version, deployed, hash, family, dimension, layers, max_length, parameters,
    pg_catalog.pg_size_pretty(parameter_bytes) as size, format, block_side, source, loaded_at,
    loaded_by
from pageformer.model_versions
where model = $1
order by loaded_at, version

-- name: deploy
select pageformer.deploy($1::text, $2::text)

-- name: drop_version
select pageformer.drop_version($1::text, $2::text)

-- name: verify
select pageformer.verify($1::text) as pages

-- name: server
select pg_catalog.current_setting('server_version') as version,
    pg_catalog.current_setting('server_version_num')::integer / 10000 as major,
    (select rolsuper from pg_catalog.pg_roles where rolname = current_user) as superuser,
    current_user as role, pg_catalog.current_database() as database

-- name: extension
select default_version, installed_version
from pg_catalog.pg_available_extensions
where name = $1

-- name: running_site
select pg_catalog.current_setting('pageformer.site', true) as site

-- name: revision_table
select pg_catalog.to_regclass('pageformer.alembic_version') is not null as found

-- name: revision
select version_num as revision from pageformer.alembic_version

-- name: create_plpython
create extension if not exists plpython3u

-- name: ask_python
do $python$
import importlib, json, sys
answer = {"python": list(sys.version_info[:2]), "missing": {}}
for name in ("numpy", "orjson", "tokenizers", "pageformer.udfs.server"):
    try:
        importlib.import_module(name)
    except Exception as error:
        answer["missing"][name] = f"{type(error).__name__}: {error}"
plpy.execute(plpy.prepare("select pg_catalog.set_config('pageformer.answer', $1, true)", ["text"]),
             [json.dumps(answer)])
$python$ language plpython3u

-- name: answer
select pg_catalog.current_setting('pageformer.answer')::json as answer

-- name: diff
select tensor, count(*)::text as blocks,
    pg_catalog.to_char(pg_catalog.avg(distance), 'FM990.0000') as mean_distance,
    pg_catalog.to_char(pg_catalog.max(distance), 'FM990.0000') as largest
from pageformer.diff($1::text, $2::text)
group by tensor
order by tensor

-- name: report_versions
select m.name || '@' || v.label as name, v.parameter_bytes,
    coalesce(d.rung, 'exact') as rung, d.measure, d.score_before, d.score_after, d.dropped,
    d.dropped_low, d.dropped_high, d.max_drop,
    pg_catalog.sum(s.bytes)::bigint as bytes,
    coalesce(pg_catalog.sum(s.bytes) filter (where s.users = 1), 0)::bigint as own_bytes
from pageformer.version v
join pageformer.model m on m.id = v.model_id
left join pageformer.deduplication d on d.version_id = v.id
join (
    select u.version_id, b.bytes,
        pg_catalog.count(*) over (partition by u.block_hash) as users
    from pageformer.version_block u
    join pageformer.block_size b on b.block_hash = u.block_hash
) s on s.version_id = v.id
group by v.id, m.name, d.version_id
order by v.id

-- name: report_tensors
select m.name || '@' || v.label as name, t.name as tensor,
    pg_catalog.count(*) as blocks,
    pg_catalog.count(*) filter (where c.users > 1) as shared,
    pg_catalog.count(*) filter (where c.form = 'delta') as differences
from pageformer.version v
join pageformer.model m on m.id = v.model_id
join pageformer.tensor t on t.version_id = v.id and t.grid is not null
cross join lateral pg_catalog.unnest(t.grid) u (block)
join (
    select f.block_hash, f.form, pg_catalog.count(distinct b.version_id) as users
    from (
        select p.block_hash, pg_catalog.min(g.format) as form
        from pageformer.placement p
        join pageformer.page g on g.hash = p.page_hash
        group by p.block_hash
    ) f
    join pageformer.version_block b on b.block_hash = f.block_hash
    group by f.block_hash, f.form
) c on c.block_hash = u.block
group by v.id, m.name, t.name
order by v.id, t.name

-- name: report_classes
select pg_catalog.array_to_string(c.users, ', ') as versions,
    pg_catalog.count(distinct c.page_hash) as pages, pg_catalog.sum(c.bytes)::bigint as bytes
from (
    select p.page_hash, pg_catalog.max(pg_catalog.octet_length(g.data)) as bytes,
        pg_catalog.array_agg(distinct m.name || '@' || v.label) as users
    from pageformer.placement p
    join pageformer.page g on g.hash = p.page_hash
    join pageformer.version_block b on b.block_hash = p.block_hash
    join pageformer.version v on v.id = b.version_id
    join pageformer.model m on m.id = v.model_id
    group by p.page_hash
) c
group by c.users
order by bytes desc

-- name: tasks
select task || '@' || task_version as task, model || '@' || version as model,
    case when deployed then 'yes' else '' end as deployed, kind,
    pg_catalog.to_char(bytes, 'FM999,999,999,999') as bytes,
    pg_catalog.to_char(full_bytes, 'FM999,999,999,999') as full_bytes,
    pg_catalog.to_char(loaded_at, 'YYYY-MM-DD HH24:MI') as loaded
from pageformer.tasks
where $1::text is null or model = pg_catalog.split_part($1::text, '@', 1)
order by tasks.model, version, tasks.task, loaded_at, task_version

-- name: task
select t.task || '@' || t.task_version as task, t.model || '@' || t.version as model, t.deployed,
    t.kind, t.arrays, pg_catalog.pg_size_pretty(t.bytes) as size,
    pg_catalog.pg_size_pretty(t.own_bytes) as own_size,
    pg_catalog.pg_size_pretty(t.full_bytes) as full_size, t.hash, t.source, t.loaded_at, t.loaded_by
from pageformer.tasks t
join pageformer.model_versions v on v.model = t.model and v.version = t.version
where t.model = pg_catalog.split_part($1::text, '@', 1)
    and case when pg_catalog.strpos($1::text, '@') > 0
        then t.version = pg_catalog.split_part($1::text, '@', 2) else v.deployed end
    and t.task = pg_catalog.split_part($2::text, '@', 1)
    and (pg_catalog.strpos($2::text, '@') = 0
         or t.task_version = pg_catalog.split_part($2::text, '@', 2))
order by t.loaded_at, t.task_version

-- name: deploy_task
select pageformer.deploy_task($1::text, $2::text, $3::text)

-- name: drop_task
select pageformer.drop_task($1::text, $2::text)

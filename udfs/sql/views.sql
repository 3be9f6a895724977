-- What is loaded, for reading. In a view `current_user` is the caller, while its tables are read with
-- the owner's rights: everybody sees the models that they may use, and no weight.

-- A dump may be restored where our roles do not exist: its superuser, who has every role, uses it all the
-- same, as may those who run programs as the server. Read by each call, so roles are looked up by name and
-- not joined.
create or replace view pageformer.usable_model with (security_barrier) as
select m.id, m.name, m.deployed_id, m.compute
from pageformer.model m
where pg_catalog.pg_has_role(current_user, coalesce(
        pg_catalog.to_regrole('pageformer_reader'),
        pg_catalog.to_regrole('pg_execute_server_program')), 'usage')
    or exists (
        select
        from pageformer.model_grant g
        where g.model_id = m.id
            and (g.role_name = 'public' or pg_catalog.pg_has_role(
                current_user, pg_catalog.to_regrole(pg_catalog.quote_ident(g.role_name)), 'usage'))
    );

-- The owner's settings in one text: what a call reads beside the name that it resolves.
create or replace view pageformer.settings_in_force as
select pg_catalog.json_object_agg(s.name, s.value)::text as settings
from pageformer.setting s;

create or replace view pageformer.model_versions with (security_barrier) as
select
    m.name as model,
    v.label as version,
    v.id = m.deployed_id as deployed,
    pg_catalog.encode(v.hash, 'hex') as hash,
    c.family,
    coalesce(c.dimension, c.hidden) as dimension,
    c.layers,
    nullif(c.max_length, 0) as max_length,
    v.parameters,
    v.parameter_bytes,
    v.format,
    v.block_side,
    v.source,
    v.loaded_at,
    v.loaded_by
from pageformer.usable_model m
join pageformer.version v on v.model_id = m.id
cross join lateral pg_catalog.json_to_record(v.config::json)
    c (family text, hidden integer, dimension integer, layers integer, max_length integer);

create or replace view pageformer.models with (security_barrier) as
select
    v.model,
    v.version as deployed_version,
    v.family,
    v.dimension,
    v.max_length,
    v.parameters,
    v.loaded_at,
    (select count(*) from pageformer.model_versions other where other.model = v.model) as versions,
    m.compute,
    case m.compute when 'auto' then pageformer.computed_here(m.name) else m.compute end as computed_in
from pageformer.model_versions v
join pageformer.model m on m.name = v.model
where v.deployed;

create or replace view pageformer.tensors with (security_barrier) as
select
    m.name as model,
    v.label as version,
    t.name as tensor,
    t.shape,
    pg_catalog.cardinality(t.grid) as blocks,
    t.bundle_offset
from pageformer.usable_model m
join pageformer.version v on v.model_id = m.id
join pageformer.tensor t on t.version_id = v.id;

create or replace view pageformer.pages with (security_barrier) as
select
    pg_catalog.encode(g.hash, 'hex') as page,
    g.format,
    g.block_rows,
    g.block_cols,
    pg_catalog.octet_length(g.data) as bytes,
    (select count(*) from pageformer.placement p where p.page_hash = g.hash) as blocks
from pageformer.page g;

-- Edits over versions. bytes: of the task's arrays; own_bytes: of those that no other task has;
-- full_bytes: of the version that the task spares a copy of.
create or replace view pageformer.tasks with (security_barrier) as
select
    m.name as model,
    v.label as version,
    t.name as task,
    t.label as task_version,
    t.deployed,
    t.kind,
    s.bytes,
    s.own_bytes,
    v.parameter_bytes as full_bytes,
    s.arrays,
    pg_catalog.encode(t.hash, 'hex') as hash,
    t.source,
    t.loaded_at,
    t.loaded_by
from pageformer.usable_model m
join pageformer.version v on v.model_id = m.id
join pageformer.task t on t.version_id = v.id
cross join lateral (
    select
        coalesce(pg_catalog.sum(a.bytes), 0)::bigint as bytes,
        coalesce(pg_catalog.sum(a.bytes) filter (where not exists (
            select from pageformer.task_part o
            where o.array_hash = a.hash and o.task_id <> t.id)), 0)::bigint as own_bytes,
        pg_catalog.count(*) as arrays
    from pageformer.task_array a
    where a.hash in (select p.array_hash from pageformer.task_part p where p.task_id = t.id)
) s;

-- What the page cache holds of each model; pages that models share count with each of them.
create or replace view pageformer.cache with (security_barrier) as
select m.model, f.hits, f.misses, f.evictions, f.pages, f.bytes
from (
    select u.name as model, pg_catalog.array_agg(v.hash) as versions
    from pageformer.usable_model u
    join pageformer.version v on v.model_id = u.id
    group by u.name
) m
cross join lateral pageformer.cache_figures(m.versions) f;

grant select on pageformer.usable_model, pageformer.settings_in_force, pageformer.model_versions,
    pageformer.models, pageformer.tensors, pageformer.tasks, pageformer.cache
    to public;
grant select on pageformer.pages to pageformer_reader;

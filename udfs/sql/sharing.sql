-- What versions share, and what sharing has cost them.

-- The blocks that a version stands on: those of its tensors, and the bases of its differences.
create or replace view pageformer.version_block as
with used as (
    select distinct t.version_id, u.block_hash
    from pageformer.tensor t
    cross join lateral pg_catalog.unnest(t.grid) u (block_hash)
)
select version_id, block_hash from used
union
select used.version_id, pg_catalog.substring(g.data, 17 + 32 * p.slot, 32)
from used
join pageformer.placement p on p.block_hash = used.block_hash
join pageformer.page g on g.hash = p.page_hash and g.format = 'delta';

-- A page's bytes, told to its blocks in equal parts.
create or replace view pageformer.block_size as
select p.block_hash, pg_catalog.max(pg_catalog.octet_length(g.data) / n.blocks) as bytes
from pageformer.placement p
join pageformer.page g on g.hash = p.page_hash
join (
    select c.page_hash, pg_catalog.count(*) as blocks
    from pageformer.placement c group by c.page_hash
) n on n.page_hash = p.page_hash
group by p.block_hash;

-- Each two versions: bytes that each stands on, that both do, and that no other version does.
create or replace view pageformer.sharing as
with used as (
    select u.version_id, u.block_hash, s.bytes,
        pg_catalog.count(*) over (partition by u.block_hash) as users
    from pageformer.version_block u
    join pageformer.block_size s on s.block_hash = u.block_hash
),
total as (
    select u.version_id, pg_catalog.sum(u.bytes)::bigint as bytes,
        coalesce(pg_catalog.sum(u.bytes) filter (where u.users = 1), 0)::bigint as own_bytes
    from used u group by u.version_id
),
common as (
    select a.version_id, b.version_id as other_id, pg_catalog.count(*) as blocks,
        pg_catalog.sum(a.bytes)::bigint as bytes
    from used a
    join used b on b.block_hash = a.block_hash and b.version_id <> a.version_id
    group by a.version_id, b.version_id
)
select m.name as model, v.label as version, om.name as other_model, o.label as other_version,
    t.bytes, t.own_bytes,
    coalesce(c.blocks, 0) as shared_blocks, coalesce(c.bytes, 0) as shared_bytes
from pageformer.version v
join pageformer.model m on m.id = v.model_id
join total t on t.version_id = v.id
join pageformer.version o on o.id <> v.id
join pageformer.model om on om.id = o.model_id
left join common c on c.version_id = v.id and c.other_id = o.id;

-- What a version was approximated by, and what it lost.
create or replace view pageformer.deduplications as
select m.name as model, v.label as version, d.rung, d.measure, d.max_drop, d.inputs,
    d.score_before, d.score_after, d.dropped, d.dropped_low, d.dropped_high,
    d.blocks_equal, d.blocks_replaced, d.blocks_delta, d.blocks_kept, d.seconds
from pageformer.deduplication d
join pageformer.version v on v.id = d.version_id
join pageformer.model m on m.id = v.model_id;

create or replace function pageformer_op.distance(a bytea, b bytea) returns double precision
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.distance(a, b)
$python$;

-- Where two versions differ: blocks counted from 1, and how far apart in parts of a's length. A null
-- distance: only one of them has that block.
create or replace function pageformer.diff(a text, b text)
returns table (tensor text, block_row integer, block_col integer, distance double precision)
language plpgsql stable parallel unsafe rows 1000
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    first_version pageformer.version := named_version(a);
    second_version pageformer.version := named_version(b);
begin
    return query
    select coalesce(x.name, y.name), coalesce(x.i, y.i), coalesce(x.j, y.j),
        case when first_version.block_side = second_version.block_side
            then pageformer_op.distance(block_value(x.block), block_value(y.block)) end
    from version_grid(first_version.id) x
    full join version_grid(second_version.id) y on y.name = x.name and y.i = x.i and y.j = x.j
    where x.block is distinct from y.block
    order by 1, 2, 3;
end
$$;

create or replace function pageformer.version_grid(version_id integer)
returns table (name text, i integer, j integer, block bytea)
language sql stable parallel unsafe rows 1000
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select t.name, i, j, t.grid[i][j]
    from tensor t
    cross join lateral generate_subscripts(t.grid, 1) i
    cross join lateral generate_subscripts(t.grid, 2) j
    where t.version_id = version_grid.version_id and t.grid is not null
$$;

-- A version by 'model', the deployed one, or 'model@version'.
create or replace function pageformer.named_version(name text) returns pageformer.version
language plpgsql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    owner pageformer.model := find_model(split_part(name, '@', 1));
    found_version pageformer.version;
begin
    if strpos(name, '@') > 0 then
        return find_version(owner.name, split_part(name, '@', 2));
    end if;
    select v.* into found_version from pageformer.version v where v.id = owner.deployed_id;
    return found_version;
end
$$;

revoke execute on function
    pageformer.diff(text, text), pageformer.version_grid(integer), pageformer.named_version(text)
    from public;
grant execute on function
    pageformer.diff(text, text), pageformer.version_grid(integer), pageformer.named_version(text),
    pageformer.find_model(text), pageformer.find_version(text, text)
    to pageformer_reader;

grant select on pageformer.version_block, pageformer.block_size, pageformer.sharing,
    pageformer.deduplications, pageformer.signature, pageformer.deduplication
    to pageformer_reader;
grant insert, update, delete on pageformer.signature, pageformer.deduplication
    to pageformer_admin;

-- name: pages_without_signature
select g.hash, g.format, g.block_rows, g.data
from pageformer.page g
where g.format <> 'delta' and g.block_rows = $1
    and not exists (select from pageformer.signature s where s.page_hash = g.hash)

-- name: insert_signature
insert into pageformer.signature (page_hash, bands) values ($1, $2) on conflict do nothing

-- name: signatures
select p.block_hash, pg_catalog.substring(s.bands, p.slot * $2::integer + 1, $2::integer) as bands
from pageformer.signature s
join pageformer.page g on g.hash = s.page_hash and g.block_rows = $1
join pageformer.placement p on p.page_hash = s.page_hash
order by p.block_hash

-- name: relatives
select t.version_id
from pageformer.tensor t
join pageformer.version v on v.id = t.version_id and v.block_side = $2
cross join lateral pg_catalog.unnest(t.grid) u (block)
where u.block = any($1::bytea[])
group by t.version_id
order by count(*) desc, t.version_id
limit 1

-- name: grids
select name, grid from pageformer.tensor where version_id = $1 and grid is not null

-- name: blocks
select distinct on (p.block_hash)
    p.block_hash, g.format,
    pg_catalog.substring(g.data, p.slot * size.bytes + 1, size.bytes) as data
from pageformer.placement p
join pageformer.page g on g.hash = p.page_hash and g.format <> 'delta'
cross join lateral (
    select g.block_rows * g.block_cols * case g.format when 'f32' then 4 else 2 end
) size (bytes)
where p.block_hash = any($1::bytea[])
order by p.block_hash, p.page_hash

-- name: insert_deduplication
insert into pageformer.deduplication
    (version_id, rung, original_hash, measure, max_drop, inputs, score_before, score_after,
     dropped, dropped_low, dropped_high, blocks_equal, blocks_replaced, blocks_delta, blocks_kept,
     seconds)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: lock
select pageformer.lock_blocks()

-- name: grids
select v.id, t.grid
from pageformer.version v
join pageformer.tensor t on t.version_id = v.id and t.grid is not null
order by v.id, t.name

-- name: placements
select p.block_hash, p.page_hash, p.slot, g.format, g.block_rows, g.block_cols
from pageformer.placement p
join pageformer.page g on g.hash = p.page_hash
order by p.page_hash, p.slot

-- name: page_sizes
select hash, pg_catalog.octet_length(data) from pageformer.page

-- name: page
select data from pageformer.page where hash = $1

-- name: insert_page
insert into pageformer.page (hash, format, block_rows, block_cols, data)
values ($1, $2, $3, $4, $5)

-- name: clear_placements
delete from pageformer.placement where page_hash = any($1::bytea[])

-- name: insert_placement
insert into pageformer.placement (block_hash, page_hash, slot) values ($1, $2, $3)

-- name: delete_pages
delete from pageformer.page where hash = any($1::bytea[])

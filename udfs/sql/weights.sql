-- A version as relations of blocks, for those who may see weights. Blocks are exact: what pads the last
-- row and column of a stored grid is cut off. `weight_matrix` and `weights` have their queries bound when
-- they are made, and no settings of their own, so that the planner puts the query in their place: a join
-- with a block's row and column then reads no other block.

create or replace function pageformer.plain_block(
    format text, block_rows integer, block_cols integer, data bytea, slot integer
) returns bytea
language sql immutable parallel safe
return pageformer_op.block(format, block_rows, block_cols, pg_catalog.substring(data,
    slot * block_rows * block_cols * case format when 'f32' then 4 else 2 end + 1,
    block_rows * block_cols * case format when 'f32' then 4 else 2 end));

create or replace function pageformer.plain_block_value(block bytea) returns bytea
language sql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select plain_block(g.format, g.block_rows, g.block_cols, g.data, p.slot)
    from placement p
    join page g on g.hash = p.page_hash and g.format <> 'delta'
    where p.block_hash = block
    limit 1
$$;

-- A block as its page has it, or in float32 what a difference and its base make.
create or replace function pageformer.stored_block(
    format text, block_rows integer, block_cols integer, data bytea, slot integer
) returns bytea
language sql stable parallel safe
return case when format = 'delta' then pageformer_op.add_delta(data, slot,
        pageformer.plain_block_value(pg_catalog.substring(data, 17 + 32 * slot, 32)))
    else pageformer.plain_block(format, block_rows, block_cols, data, slot) end;

create or replace function pageformer.block_value(block bytea) returns bytea
language sql stable parallel safe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select stored_block(g.format, g.block_rows, g.block_cols, g.data, p.slot)
    from placement p
    join page g on g.hash = p.page_hash
    where p.block_hash = block
    limit 1
$$;

-- Which block stands where in a 2-D tensor, and how much of it belongs to the tensor. This function and
-- `weight_vector` are in PL/pgSQL, which plans their query once and not at every step.
create or replace function pageformer.weight_grid(model text, tensor text)
returns table (block_row integer, block_col integer, rows integer, cols integer, hash bytea)
language plpgsql stable parallel safe rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    return query
    select before.rows + 1, before.cols + 1,
        least(v.block_side, t.shape[1] - before.rows * v.block_side),
        least(v.block_side, t.shape[2] - before.cols * v.block_side),
        b.hash
    from tensor t
    join version v on v.id = t.version_id
    cross join lateral unnest(t.grid) with ordinality b (hash, number)
    cross join lateral (
        select (t.shape[2] + v.block_side - 1) / v.block_side  -- cheaper than to ask t.grid
    ) grid (across)
    cross join lateral (
        select (b.number::integer - 1) / grid.across, (b.number::integer - 1) % grid.across
    ) before (rows, cols)
    where t.version_id = (named_version(model)).id and t.name = weight_grid.tensor;
end
$$;

-- A 2-D tensor: [in, out] of a linear map, [rows, width] of a table.
create or replace function pageformer.weight_matrix(model text, tensor text)
returns table (block_row integer, block_col integer, block bytea)
language sql stable parallel safe rows 100
begin atomic
    select b.block_row, b.block_col,
        case when b.rows < g.block_rows or b.cols < g.block_cols then pageformer_op.slice(
            pageformer.stored_block(g.format, g.block_rows, g.block_cols, g.data, p.slot),
            1, b.rows, 1, b.cols)
        else pageformer.stored_block(g.format, g.block_rows, g.block_cols, g.data, p.slot) end
    from pageformer.weight_grid(weight_matrix.model, weight_matrix.tensor) b
    cross join lateral (
        select any_placement.page_hash, any_placement.slot
        from pageformer.placement any_placement where any_placement.block_hash = b.hash limit 1
    ) p
    join pageformer.page g on g.hash = p.page_hash;
end;

-- A 1-D tensor, as blocks of one row: as wide as those of a matrix, so that a bias joins by column.
create or replace function pageformer.weight_vector(model text, tensor text)
returns table (block_col integer, block bytea)
language plpgsql stable parallel safe rows 10
set search_path = pg_catalog, pageformer, pg_temp
as $$
begin
    return query
    select part.block_col, part.block
    from tensor t
    join version v on v.id = t.version_id
    join tensor bundle on bundle.version_id = t.version_id and bundle.name = 'bundle'
    cross join lateral (select v.block_side * v.block_side) area (elements)
    cross join lateral (
        select array_agg(block_value(bundle.grid[i + 1][1]) order by i)
        from generate_series(t.bundle_offset / area.elements,
            (t.bundle_offset + t.shape[1] - 1) / area.elements) i
    ) b (blocks)
    cross join lateral pageformer_op.tile(
        pageformer_op.run(b.blocks, t.bundle_offset % area.elements + 1, t.shape[1]), 1, v.block_side
    ) part
    where t.version_id = (named_version(model)).id and t.name = weight_vector.tensor;
end
$$;

-- All of a version, counted from 1. A 1-D tensor is one row of blocks.
create or replace function pageformer.weights(model text)
returns table (tensor text, block_row integer, block_col integer, block bytea)
language sql stable parallel safe rows 1000
begin atomic
    select t.name, w.block_row, w.block_col, w.block
    from pageformer.tensor t
    cross join lateral pageformer.weight_matrix(weights.model, t.name) w
    where t.version_id = (pageformer.named_version(weights.model)).id
        and t.grid is not null and t.name <> 'bundle'
    union all
    select t.name, 1, w.block_col, w.block
    from pageformer.tensor t
    cross join lateral pageformer.weight_vector(weights.model, t.name) w
    where t.version_id = (pageformer.named_version(weights.model)).id
        and t.bundle_offset is not null;
end;

create or replace function pageformer.to_vector(block bytea) returns vector
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.to_vector(block)
$python$;

revoke execute on function
    pageformer.plain_block(text, integer, integer, bytea, integer),
    pageformer.plain_block_value(bytea),
    pageformer.stored_block(text, integer, integer, bytea, integer),
    pageformer.block_value(bytea), pageformer.weight_grid(text, text),
    pageformer.weight_matrix(text, text),
    pageformer.weight_vector(text, text), pageformer.weights(text)
    from public;
grant execute on function
    pageformer.plain_block(text, integer, integer, bytea, integer),
    pageformer.plain_block_value(bytea),
    pageformer.stored_block(text, integer, integer, bytea, integer),
    pageformer.block_value(bytea), pageformer.weight_grid(text, text),
    pageformer.weight_matrix(text, text),
    pageformer.weight_vector(text, text), pageformer.weights(text)
    to pageformer_reader;

-- Operators over blocks: a block is a bytea with a small typed header (see udfs/blocks.py). They
-- read nothing but their arguments.

create or replace function pageformer_op.block(form text, block_rows integer, block_cols integer,
    data bytea)
returns bytea
language plpython3u immutable strict parallel safe
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.block(form, block_rows, block_cols, data)
$python$;

create or replace function pageformer_op.from_array(elements real[]) returns bytea
language plpython3u immutable strict parallel safe
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.from_array(elements)
$python$;

create or replace function pageformer_op.to_array(block bytea) returns real[]
language plpython3u immutable strict parallel safe
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.to_array(block)
$python$;

create or replace function pageformer_op.matmul(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.matmul(a, b)
$python$;

create or replace function pageformer_op.add(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.add(a, b)
$python$;

create or replace function pageformer_op.gelu(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.gelu(block)
$python$;

create or replace function pageformer_op.softmax(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.softmax(block)
$python$;

create or replace function pageformer_op.layer_norm(block bytea, weight bytea, bias bytea,
    eps double precision)
returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.layer_norm(block, weight, bias, eps)
$python$;

create or replace aggregate pageformer_op.sum(bytea) (
    sfunc = pageformer_op.add, stype = bytea, combinefunc = pageformer_op.add, parallel = safe
);

create or replace function pageformer_op.add_delta(page bytea, slot integer, base bytea)
returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs import block_operators
return block_operators.add_delta(page, slot, base)
$python$;

-- A block as a value: as stored, or in float32 what a difference and its base make.
create or replace function pageformer.plain_block_value(block bytea) returns bytea
language sql stable parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select pageformer_op.block(g.format, g.block_rows, g.block_cols,
        substring(g.data from p.slot * size.bytes + 1 for size.bytes))
    from placement p
    join page g on g.hash = p.page_hash and g.format <> 'delta'
    cross join lateral (
        select g.block_rows * g.block_cols * case g.format when 'f32' then 4 else 2 end
    ) size (bytes)
    where p.block_hash = block
    limit 1
$$;

create or replace function pageformer.block_value(block bytea) returns bytea
language sql stable parallel unsafe
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select coalesce(plain_block_value(block), (
        select pageformer_op.add_delta(
            g.data, p.slot, plain_block_value(substring(g.data from 17 + 32 * p.slot for 32)))
        from placement p
        join page g on g.hash = p.page_hash
        where p.block_hash = block
        limit 1
    ))
$$;

-- A version as blocks, as stored, counted from 1: for those who may see weights.
create or replace function pageformer.weights(model text)
returns table (tensor text, block_row integer, block_col integer, block bytea)
language sql stable parallel unsafe rows 1000
set search_path = pg_catalog, pageformer, pg_temp
as $$
    select t.name, i.block_row, j.block_col,
        block_value(t.grid[i.block_row][j.block_col])
    from model m
    join version v on v.model_id = m.id
        and case when strpos(weights.model, '@') = 0 then v.id = m.deployed_id
            else v.label = split_part(weights.model, '@', 2) end
    join tensor t on t.version_id = v.id and t.grid is not null
    cross join lateral generate_subscripts(t.grid, 1) i (block_row)
    cross join lateral generate_subscripts(t.grid, 2) j (block_col)
    where m.name = split_part(weights.model, '@', 1)
$$;

revoke execute on function
    pageformer.weights(text), pageformer.block_value(bytea), pageformer.plain_block_value(bytea)
    from public;
grant execute on function
    pageformer.weights(text), pageformer.block_value(bytea), pageformer.plain_block_value(bytea)
    to pageformer_reader;

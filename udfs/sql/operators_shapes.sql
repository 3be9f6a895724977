-- Operators that make blocks, join them, take them apart and read them. Rows and columns are counted
-- from 1.

create or replace function pageformer_op.block(form text, block_rows integer, block_cols integer, data bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.block(form, block_rows, block_cols, data)
$python$;

create or replace function pageformer_op.from_array(elements real[]) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.from_array(elements)
$python$;

create or replace function pageformer_op.to_array(block bytea) returns real[]
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.to_array(block)
$python$;

create or replace function pageformer_op.from_tensor(elements real[]) returns table (
    sequence integer, block bytea
)
language plpython3u immutable strict parallel safe cost 1000 rows 10
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.from_tensor(elements)
$python$;

create or replace function pageformer_op.to_tensor(blocks bytea[]) returns real[]
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.to_tensor(blocks)
$python$;

-- Side by side.
create or replace function pageformer_op.concat(blocks bytea[]) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.concat(blocks)
$python$;

create or replace aggregate pageformer_op.concat(bytea) (
    sfunc = pg_catalog.array_append, stype = bytea[], finalfunc = pageformer_op.concat
);

-- One below the other.
create or replace function pageformer_op.stack(blocks bytea[]) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.stack(blocks)
$python$;

create or replace aggregate pageformer_op.stack(bytea) (
    sfunc = pg_catalog.array_append, stype = bytea[], finalfunc = pageformer_op.stack
);

-- So many elements of blocks laid end to end, as one row.
create or replace function pageformer_op.run(blocks bytea[], first bigint, count integer) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.run(blocks, first, count)
$python$;

-- So many rows and columns, fewer where the block ends.
create or replace function pageformer_op.slice(
    block bytea, first_row integer, rows integer,
    first_col integer default 1, cols integer default 2147483647
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.slice(block, first_row, rows, first_col, cols)
$python$;

create or replace function pageformer_op.tile(whole bytea, rows integer, cols integer) returns table (
    block_row integer, block_col integer, block bytea
)
language plpython3u immutable strict parallel safe cost 1000 rows 10
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_shapes
return block_shapes.tile(whole, rows, cols)
$python$;

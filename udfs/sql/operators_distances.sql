-- Operators for what attention makes of distances, for one block of scores: its rows and columns are
-- those of a sequence behind `first_row` and `first_col`, which count from 0.

create or replace function pageformer_op.alibi(
    rows integer, first_row integer, cols integer, first_col integer, slope double precision
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.alibi(rows, first_row, cols, first_col, slope)
$python$;

create or replace function pageformer_op.near(
    rows integer, first_row integer, cols integer, first_col integer, width integer
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.near(rows, first_row, cols, first_col, width)
$python$;

create or replace function pageformer_op.relative_bias(
    block bytea, head integer, rows integer, first_row integer, cols integer, first_col integer
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.relative_bias(block, head, rows, first_row, cols, first_col)
$python$;

create or replace function pageformer_op.rotate(
    block bytea, first integer, theta double precision, divisor double precision
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.rotate(block, first, theta, divisor)
$python$;

create or replace function pageformer_op.to_positions(
    block bytea, first_row integer, cols integer, first_col integer, span integer, reach integer
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.to_positions(block, first_row, cols, first_col, span, reach)
$python$;

create or replace function pageformer_op.from_positions(
    block bytea, first_col integer, rows integer, first_row integer, span integer, reach integer
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_distances
return block_distances.from_positions(block, first_col, rows, first_row, span, reach)
$python$;

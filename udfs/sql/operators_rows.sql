-- Operators over rows. Those that end in `_part` are the second pass over rows that lie in several blocks:
-- the first one gathers what all parts know, by an aggregate that merges partial results.

create or replace function pageformer_op.softmax(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.softmax(block)
$python$;

create or replace function pageformer_op.row_max(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.row_max(block)
$python$;

create or replace function pageformer_op.maximum(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.maximum(a, b)
$python$;

create or replace aggregate pageformer_op.maximum(bytea) (
    sfunc = pageformer_op.maximum, stype = bytea, combinefunc = pageformer_op.maximum, parallel = safe
);

create or replace function pageformer_op.exp_sum(block bytea, row_max bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.exp_sum(block, row_max)
$python$;

create or replace function pageformer_op.softmax_part(block bytea, row_max bytea, exp_sum bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.softmax_part(block, row_max, exp_sum)
$python$;

create or replace function pageformer_op.layer_norm(
    block bytea, weight bytea, bias bytea, eps double precision
) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.layer_norm(block, weight, bias, eps)
$python$;

create or replace function pageformer_op.row_moments(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.row_moments(block)
$python$;

create or replace function pageformer_op.merge_moments(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.merge_moments(a, b)
$python$;

create or replace aggregate pageformer_op.merge_moments(bytea) (
    sfunc = pageformer_op.merge_moments, stype = bytea, combinefunc = pageformer_op.merge_moments, parallel = safe
);

-- A null bias is none.
create or replace function pageformer_op.layer_norm_part(
    block bytea, moments bytea, weight bytea, bias bytea, eps double precision
) returns bytea
language plpython3u immutable parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.layer_norm_part(block, moments, weight, bias, eps)
$python$;

create or replace function pageformer_op.square_sum(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.square_sum(block)
$python$;

create or replace function pageformer_op.normalize_part(block bytea, square_sum bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.normalize_part(block, square_sum)
$python$;

create or replace function pageformer_op.pool(block bytea, mode text, skip integer default 0) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_rows
return block_rows.pool(block, mode, skip)
$python$;

-- Operators over blocks: products, and what is done element by element. A block is a bytea with a small
-- typed header (see udfs/blocks.py). Operators read nothing but their arguments; shapes that do not go
-- together are errors, null makes null.

create or replace function pageformer_op.matmul(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.matmul(a, b)
$python$;

create or replace function pageformer_op.transpose(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.transpose(block)
$python$;

create or replace function pageformer_op.add(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.add(a, b)
$python$;

create or replace aggregate pageformer_op.sum(bytea) (
    sfunc = pageformer_op.add, stype = bytea, combinefunc = pageformer_op.add, parallel = safe
);

create or replace function pageformer_op.multiply(a bytea, b bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.multiply(a, b)
$python$;

create or replace function pageformer_op.add_bias(block bytea, bias bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.add_bias(block, bias)
$python$;

create or replace function pageformer_op.scale(block bytea, factor double precision) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.scale(block, factor)
$python$;

-- Minus infinity where the mask has a zero: a softmax gives nothing to it.
create or replace function pageformer_op.mask(block bytea, visible bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.mask(block, visible)
$python$;

create or replace function pageformer_op.relu(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'relu')
$python$;

create or replace function pageformer_op.gelu(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'gelu')
$python$;

create or replace function pageformer_op.gelu_tanh(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'gelu_tanh')
$python$;

create or replace function pageformer_op.silu(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'silu')
$python$;

create or replace function pageformer_op.sigmoid(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'sigmoid')
$python$;

create or replace function pageformer_op.tanh(block bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.activate(block, 'tanh')
$python$;

-- A block from a page of differences, and its base (see udfs/delta.py).
create or replace function pageformer_op.add_delta(page bytea, slot integer, base bytea) returns bytea
language plpython3u immutable strict parallel safe cost 1000
set search_path = pg_catalog, pageformer_op, pg_temp
as $python$
from pageformer.udfs.relations import block_operators
return block_operators.add_delta(page, slot, base)
$python$;

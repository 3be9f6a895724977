-- The forward pass as a text of SQL over relations of blocks, and what runs it. It is planned once per
-- connection and version, for any input; compiling its expressions would cost more than it saves; and
-- sorting before sums would keep every block of every step to the end, where hashing keeps the sums.

create or replace function pageformer.encoder_sql(model text) returns text
language plpython3u stable parallel unsafe cost 10000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs.relations import calls
return calls.encoder_sql(model)
$python$;

create or replace function pageformer.encode_relational(input text, model text) returns vector
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_sort = off
as $python$
from pageformer.udfs.relations import calls
return calls.encode(input, model)
$python$;

create or replace function pageformer.encode_image_relational(image bytea, model text) returns vector
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_sort = off
as $python$
from pageformer.udfs.relations import calls
return calls.encode_image(image, model)
$python$;

create or replace function pageformer.encode_tensor_relational(tensor real[], model text)
returns real[]
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
set plan_cache_mode = force_generic_plan
set jit = off
set enable_sort = off
as $python$
from pageformer.udfs.relations import calls
return calls.encode_tensor(tensor, model)
$python$;

revoke execute on function
    pageformer.encoder_sql(text), pageformer.encode_relational(text, text),
    pageformer.encode_image_relational(bytea, text),
    pageformer.encode_tensor_relational(real[], text)
    from public;
grant execute on function
    pageformer.encoder_sql(text), pageformer.encode_relational(text, text),
    pageformer.encode_image_relational(bytea, text),
    pageformer.encode_tensor_relational(real[], text)
    to pageformer_reader;

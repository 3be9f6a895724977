-- Text to vectors. `encode` and `encode_pinned` hand Python no more of a long text than it needs:
-- the near end of it, eight times longer until the model's limit is reached (then the answer is
-- not null). They are bound when they are made, so that the planner puts their bodies in their
-- place: a text of usual length costs one call of Python. What takes long texts is declared cheap:
-- a plan that is made for one text leaves it out, and has to win nothing by that over a plan for all.
-- A vector's type stands in signatures alone, so that no body depends on the schema of pgvector.

create or replace function pageformer.encode_part(
    input text, more boolean, model text, prompt text, prompt_name text, task text,
    dimensions integer, normalized boolean, truncate text
) returns vector
language plpython3u stable parallel unsafe cost 100000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.encode(
    input, model, (prompt, prompt_name, task, dimensions, normalized, truncate), more
)
$python$;

create or replace function pageformer.encode_long(
    input text, model text, prompt text, prompt_name text, task text,
    dimensions integer, normalized boolean, truncate text, out answer vector
)
language plpgsql stable parallel unsafe cost 1
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    size bigint := 65536;
begin
    while octet_length(input) > size and answer is null loop
        answer := encode_part(
            case truncate when 'left' then right(input, size::integer)
            else left(input, size::integer) end,
            true, model, prompt, prompt_name, task, dimensions, normalized, truncate);
        size := size * 8;
    end loop;
    if answer is null then
        answer := encode_part(
            input, false, model, prompt, prompt_name, task, dimensions, normalized, truncate);
    end if;
end
$$;

create or replace function pageformer.encode(
    input text, model text, prompt text default null, prompt_name text default null,
    task text default null, dimensions integer default null, normalized boolean default null,
    truncate text default 'right'
) returns vector
language sql stable parallel unsafe cost 100000
return case when pg_catalog.octet_length(input) > 65536
    then pageformer.encode_long(
        input, model, prompt, prompt_name, task, dimensions, normalized, truncate)
    else pageformer.encode_part(
        input, false, model, prompt, prompt_name, task, dimensions, normalized, truncate) end;

-- Immutable because it is true: a pinned version never changes, and float32 in this backend is
-- computed whatever is set. Fit for expression indexes.
create or replace function pageformer.encode_pinned_part(input text, more boolean, version text)
returns vector
language plpython3u immutable parallel unsafe cost 100000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.encode_pinned(input, version, more)
$python$;

create or replace function pageformer.encode_pinned_long(
    input text, version text, out answer vector
)
language plpgsql immutable parallel unsafe cost 1
set search_path = pg_catalog, pageformer, pg_temp
as $$
declare
    size bigint := 65536;
begin
    while octet_length(input) > size and answer is null loop
        answer := encode_pinned_part(left(input, size::integer), true, version);
        size := size * 8;
    end loop;
    if answer is null then
        answer := encode_pinned_part(input, false, version);
    end if;
end
$$;

create or replace function pageformer.encode_pinned(input text, version text) returns vector
language sql immutable parallel unsafe cost 100000
return case when pg_catalog.octet_length(input) > 65536
    then pageformer.encode_pinned_long(input, version)
    else pageformer.encode_pinned_part(input, false, version) end;

create or replace function pageformer.encode_each(
    inputs text[], model text, prompt text, prompt_name text, task text, dimensions integer,
    normalized boolean, truncate text, tasks text[]
) returns setof vector
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.encode_batch(
    inputs, model, (prompt, prompt_name, task, dimensions, normalized, truncate), tasks
)
$python$;

-- Of rows, since Python's way to an array reads all texts of vectors without looking for a cancel.
create or replace function pageformer.encode_batch(
    inputs text[], model text, prompt text default null, prompt_name text default null,
    task text default null, dimensions integer default null, normalized boolean default null,
    truncate text default 'right', tasks text[] default null
) returns vector[]
language sql stable parallel unsafe cost 1000000
return case when inputs is not null then array(
    select pageformer.encode_each(
        inputs, model, prompt, prompt_name, task, dimensions, normalized, truncate, tasks)) end;

create or replace function pageformer.encode_tokens(
    input text, model text, prompt text default null, prompt_name text default null,
    task text default null, dimensions integer default null, normalized boolean default null,
    truncate text default 'right'
) returns table (index integer, token text, embedding vector)
language plpython3u stable parallel unsafe cost 100000 rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.encode_tokens(
    input, model, (prompt, prompt_name, task, dimensions, normalized, truncate)
)
$python$;

create or replace function pageformer.encode_tensor_text(sent bytea, model text) returns text
language plpython3u stable parallel unsafe cost 100000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import tensors
return tensors.encode_sent(sent, model)
$python$;

-- Bound when it is made, so that the planner puts its body in its place.
create or replace function pageformer.encode_tensor(tensor real[], model text) returns real[]
language sql stable parallel unsafe cost 100000
return pageformer.encode_tensor_text(pg_catalog.array_send(tensor), model)::real[];

create or replace function pageformer.encode_blocks(blocks bytea[], model text) returns bytea[]
language plpython3u stable parallel unsafe cost 100000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import tensors
return tensors.encode_blocks(blocks, model)
$python$;

create or replace function pageformer.tokenize(input text, model text)
returns table (
    index integer, id integer, token text, start_offset integer, end_offset integer
)
language plpython3u stable parallel unsafe cost 10000 rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.tokenize(input, model)
$python$;

create or replace function pageformer.count_tokens(input text, model text) returns integer
language plpython3u stable parallel unsafe cost 10000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.count_tokens(input, model)
$python$;

create or replace function pageformer.preload(model text) returns bigint
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.preload(model)
$python$;

create or replace function pageformer.verify(model text) returns bigint
language plpython3u stable parallel unsafe cost 1000000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import server
return server.verify(model)
$python$;

-- The one door to page bytes for the functions above: it runs what they left pending in this
-- interpreter, with the owner's rights, for whoever knows the interpreter's random key.
create or replace function pageformer.as_owner(key bytea) returns void
language plpython3u stable parallel unsafe security definer
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import spi
spi.run_as_owner(key)
$python$;

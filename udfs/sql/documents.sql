-- Long documents in pieces, late interaction, and what there is to know of a model.

create or replace function pageformer.chunk(
    input text, model text, size integer default null, overlap integer default 0,
    boundary text default 'word'
) returns table (chunk text, start_offset integer, end_offset integer)
language plpython3u stable parallel unsafe cost 100000 rows 20
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import chunks
return chunks.chunk(input, model, size, overlap, boundary)
$python$;

create or replace function pageformer.encode_chunks(
    input text, model text, size integer default null, overlap integer default 0,
    boundary text default 'word', prompt text default null, prompt_name text default null,
    task text default null, dimensions integer default null, normalized boolean default null
) returns table (chunk text, start_offset integer, end_offset integer, embedding vector)
language plpython3u stable parallel unsafe cost 1000000 rows 20
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import chunks
return chunks.encode_chunks(
    input, model, size, overlap, boundary,
    (prompt, prompt_name, task, dimensions, normalized, 'error'),
)
$python$;

create or replace function pageformer.describe(model text)
returns table (property text, value text)
language plpython3u stable parallel unsafe cost 10000 rows 30
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import describe
return describe.describe(model)
$python$;

-- ColBERT's score (Khattab and Zaharia 2020): for each vector of a, its largest inner product with
-- one of b, added up. The body is parsed when it is created, so that it finds pgvector's operator in
-- whatever schema that lives.
create or replace function pageformer.max_sim(a vector[], b vector[]) returns double precision
language sql immutable strict parallel safe cost 10000
set search_path = pg_catalog, pageformer, pg_temp
begin atomic
    select coalesce(sum(nearest), 0)
    from (
        select max(-(q.vector <#> d.vector)) as nearest
        from unnest(a) with ordinality q (vector, index)
        cross join unnest(b) d (vector)
        group by q.index
    ) each_of_a;
end;

-- What heads answer: labels and their scores, ranks, missing words, sparse vectors.

create or replace function pageformer.classify(
    input text, model text, task text default null, truncate text default 'right'
) returns table (label text, score real)
language plpython3u stable parallel unsafe cost 100000 rows 3
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.classify(input, model, task, truncate)
$python$;

create or replace function pageformer.classify_batch(
    inputs text[], model text, task text default null, truncate text default 'right',
    tasks text[] default null
) returns table (index integer, label text, score real)
language plpython3u stable parallel unsafe cost 1000000 rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.classify_batch(inputs, model, task, truncate, tasks)
$python$;

create or replace function pageformer.rerank(
    query text, documents text[], model text, task text default null,
    truncate text default 'right'
) returns table (index integer, score real)
language plpython3u stable parallel unsafe cost 1000000 rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.rerank(query, documents, model, task, truncate)
$python$;

create or replace function pageformer.classify_tokens(
    input text, model text, task text default null, truncate text default 'right'
) returns table (
    index integer, token text, label text, score real, start_offset integer, end_offset integer
)
language plpython3u stable parallel unsafe cost 100000 rows 100
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.classify_tokens(input, model, task, truncate)
$python$;

create or replace function pageformer.fill_mask(
    input text, model text, candidates integer default 5, task text default null,
    truncate text default 'right'
) returns table (index integer, token text, score real)
language plpython3u stable parallel unsafe cost 100000 rows 5
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.fill_mask(input, model, candidates, task, truncate)
$python$;

-- At most 1000 nonzeros by default: what an hnsw index takes.
create or replace function pageformer.encode_sparse(
    input text, model text, nonzeros integer default 1000, prompt text default null,
    prompt_name text default null, task text default null, truncate text default 'right'
) returns sparsevec
language plpython3u stable parallel unsafe cost 100000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import answers
return answers.encode_sparse(
    input, model, nonzeros, (prompt, prompt_name, task, None, None, truncate)
)
$python$;

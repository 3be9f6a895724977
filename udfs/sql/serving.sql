-- The process that serves this database: where it listens, and what it has done.

create or replace function pageformer.serving_place()
returns table (
    database bigint, name text, data_directory text, backend text, cache_folder text,
    cache_limit text, cache_policy text
)
language plpython3u stable parallel unsafe cost 10000 rows 1
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs.executors import process
return process.serving_place()
$python$;

revoke execute on function pageformer.serving_place() from public;
grant execute on function pageformer.serving_place() to pageformer_reader;

-- Everybody sees the models that they may use; nothing where no process serves.
create or replace function pageformer.serving_figures()
returns table (
    model text, version text, compute text, requests bigint, texts bigint, tokens bigint,
    texts_per_batch double precision, queue_ms double precision, queue_p99_ms double precision,
    tokens_per_second double precision, padding_avoided double precision, cache_hits bigint,
    failed bigint, page_bytes bigint, cache_bytes bigint, memory bigint, since double precision
)
language plpython3u volatile parallel unsafe cost 10000 rows 8
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs.executors import process
return process.serving()
$python$;

create or replace view pageformer.serving with (security_barrier) as
select
    f.model, f.version, f.compute, f.requests, f.texts, f.tokens, f.texts_per_batch, f.queue_ms,
    f.queue_p99_ms, f.tokens_per_second, f.padding_avoided, f.cache_hits, f.failed, f.page_bytes,
    f.cache_bytes, f.memory, pg_catalog.to_timestamp(f.since) as since
from pageformer.serving_figures() f;

grant select on pageformer.serving to public;

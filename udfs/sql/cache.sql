-- The page cache: what it holds of versions, and how often that was wanted.

create or replace function pageformer.cache_figures(versions bytea[])
returns table (hits bigint, misses bigint, evictions bigint, pages bigint, bytes bigint)
language plpython3u volatile parallel unsafe cost 10000 rows 1
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import cached
return cached.figures(versions)
$python$;

-- A version that is dropped is not wanted any more: its pages are the first to make room.
create or replace function pageformer.forget_cached(version bytea) returns void
language plpython3u volatile parallel unsafe cost 10000
set search_path = pg_catalog, pageformer, pg_temp
as $python$
from pageformer.udfs import cached
cached.forget(version)
$python$;

revoke execute on function pageformer.forget_cached(bytea) from public;
grant execute on function pageformer.forget_cached(bytea) to pageformer_admin;

-- The median seconds of the forward pass alone, in this backend, after so long a rest each time.
create or replace function pg_temp.forward_pass(input text, count integer, rest float8) returns float8
language plpython3u
set search_path = pg_catalog, pageformer, pg_temp
as $python$
import statistics, time
from pageformer.udfs import spi, versions

version = versions.ready(versions.resolve("minilm"))
ids = version.tokenizer.encode(input).ids
times = []
for _ in range(count):
    time.sleep(rest)
    begin = time.perf_counter()
    version.encoder.vectors([ids], None, None, spi.pulse)
    times.append(time.perf_counter() - begin)
return statistics.median(times)
$python$

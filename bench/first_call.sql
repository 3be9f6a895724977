do $$
import time
moments = [time.perf_counter()]
from pageformer.udfs import server, versions
moments.append(time.perf_counter())
version = versions.ready(versions.resolve('minilm'))
moments.append(time.perf_counter())
version.tokenizer
moments.append(time.perf_counter())
server.encode('which function rounds a number down?', 'minilm', (None,) * 5 + ('right',))
moments.append(time.perf_counter())
plpy.notice(' '.join(str(b - a) for a, b in zip(moments, moments[1:])))
$$ language plpython3u

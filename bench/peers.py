"""Every precision of ours beside every fast runtime, same texts, same machine, by turns.

`python -m bench.peers` prints a table: texts per second and latencies as ratios to ONNX Runtime in
float32, and beside each the cosine to our float32, the lowest and the mean over all texts.
"""

import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from bench import runtime_peer
from bench.encode import QUERIES, fill
from bench.paired import pairs, percentiles, seconds
from bench.peer import Peer
from bench.server import Server, model_directory, server
from bench.texts import descriptions, fortunes

FOLDER = Path(__file__).parents[1] / "build" / "bench-models" / "minilm"
KINDS = (
    "onnx-int8",
    "torch-float32",
    "torch-bfloat16",
    "ctranslate2-float32",
    "ctranslate2-int8",
)
ROW_BY_ROW = "select pageformer.encode(body, 'minilm') from doc where id % {count} = {part}"
Vectors = Sequence[Sequence[float]]


def peer(kind: str) -> Peer:
    """Start a peer."""
    return Peer(model_directory(), runtime_peer.__file__, kind, str(FOLDER))


def cosines(ours: Vectors, theirs: Vectors) -> str:
    """Tell the lowest and the mean cosine of two lists of vectors of length 1."""
    found = [sum(map(float.__mul__, a, b)) for a, b in zip(ours, theirs, strict=True)]
    return f"{min(found):.5f}, {statistics.fmean(found):.5f}"


def encoded(connection: psycopg.Connection, texts: list[str]) -> Vectors:
    """Return our vectors, as they are set to be computed."""
    [[found]] = connection.execute("select pageformer.encode_batch(%s, 'minilm')::text[]", [texts])
    rows = [[float(x) for x in text.strip("[]").split(",")] for text in found]
    return [[x / math.hypot(*row) for x in row] for row in rows]


def set_compute(connection: psycopg.Connection, compute: str) -> None:
    """Set how the model is computed, and let the next call find it warm."""
    connection.execute("select pageformer.set_compute('minilm', %s)", [compute])
    connection.execute("select pageformer.encode('warm', 'minilm')")


def many(server: Server, count: int) -> None:
    """Encode all texts row by row over `count` connections at once."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda part: one_of(server, count, part), range(count)))


def one_of(server: Server, count: int, part: int) -> None:
    """Encode one part of the texts."""
    with server.connect() as connection:
        connection.execute(ROW_BY_ROW.format(count=count, part=part)).fetchall()


def ours(
    server: Server, connection: psycopg.Connection, base: Peer, texts: list[str], compute: str
) -> Iterator[str]:
    """Compare one precision of ours with ONNX Runtime in float32."""
    set_compute(connection, "float32")
    wide = encoded(connection, texts)
    set_compute(connection, compute)
    alike = cosines(encoded(connection, texts), wide)
    for name, query in QUERIES.items():
        timed = pairs(
            lambda query=query: connection.execute(query).fetchall(), lambda: base.encode(texts)
        )
        rate = len(texts) / statistics.median(timed.ours)
        yield f"ours {compute}, {name} | {rate:.0f} | {timed} | {alike}"
    for count in (4, 16):
        timed = pairs(lambda count=count: many(server, count), lambda: base.encode(texts))
        rate = len(texts) / statistics.median(timed.ours)
        yield f"ours {compute}, `encode`, {count} connections | {rate:.0f} | {timed} | {alike}"


def latencies(connection: psycopg.Connection, base: Peer, compute: str) -> Iterator[str]:
    """Compare single texts, ours over the socket, with ONNX Runtime in float32."""
    set_compute(connection, compute)
    query = "select pageformer.encode(%s, 'minilm')"
    for words in (2, 10, 40):
        text = " ".join(["round"] * words)
        timed = pairs(
            lambda text=text: connection.execute(query, [text]).fetchone(),
            lambda text=text: base.encode([text]),
            100,
        )
        mine, theirs = percentiles(timed.ours), percentiles(timed.peer)
        share = statistics.median(a / b for a, b in zip(timed.ours, timed.peer, strict=True))
        yield (
            f"ours {compute}, one text of {words + 2} tokens, ms | {mine[0] * 1e3:.2f}, p99 "
            f"{mine[1] * 1e3:.2f} (ONNX Runtime {theirs[0] * 1e3:.2f}, p99 {theirs[1] * 1e3:.2f})"
            f" | takes {share:.2f} of its time |"
        )


def theirs(base: Peer, texts: list[str], wide: Vectors, kind: str) -> str:
    """Compare another peer with ONNX Runtime in float32."""
    other = peer(kind)
    timed = pairs(lambda: other.encode(texts), lambda: base.encode(texts))
    alike = cosines(other.vectors(texts), wide)
    line = f"{kind} ({other.versions}) | {len(texts) / statistics.median(timed.ours):.0f} | {timed}"
    other.close()
    return f"{line} | {alike}"


def table(server: Server, count: int, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the rows, over fortunes or, where they are missing, descriptions."""
    base = peer("onnx-float32")
    with server.connect() as connection:
        connection.execute("create table doc (id integer, body text)")
        texts = fortunes(count) or descriptions(connection, count)
        fill(connection, texts)
        rate = len(texts) / statistics.median(seconds(lambda: base.encode(texts)) for _ in range(3))
        yield f"onnx-float32 ({base.versions}) | {rate:.0f} | 1 |"
        for compute in ("float32", "bfloat16"):
            yield from ours(server, connection, base, texts, compute)
            yield from latencies(connection, base, compute)
        set_compute(connection, "float32")
        wide = encoded(connection, texts)
        for kind in kinds:
            yield theirs(base, texts, wide, kind)
    base.close()


def main(count: int, kinds: Sequence[str]) -> None:
    """Print the table."""
    with server() as running:
        print("| what | texts/s | ratio to ONNX Runtime float32 | cosine: lowest, mean |")
        print("|---|---|---|---|")
        for row in table(running, count, kinds):
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or KINDS)

"""What `encode` costs: texts per second beside a peer, latencies, bytes."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files

import psycopg

from bench.paired import pairs, percentiles, seconds
from bench.peer import Peer
from bench.server import Server, remove_cache
from bench.texts import descriptions, fortunes

Row = tuple[str, str, str]  # what was measured, ours, the peer's and the ratio

QUESTION = "which function rounds a number down?"
FRESH_CONNECTIONS = 9
SINGLES, CANCELS = 200, 50
QUERIES = {
    "`encode_batch`": """
        select pageformer.encode_batch(array_agg(body order by id), 'minilm')
        from doc group by id / 256
    """,
    "`encode`, row by row": "select pageformer.encode(body, 'minilm') from doc",
}


def throughput(server: Server, peer: Peer, count: int) -> Iterator[Row]:
    """Compare texts per second through SQL with the peer's, over one connection."""
    with server.connect() as connection:
        connection.execute("create temporary table doc (id integer, body text)")
        kinds = {"descriptions": descriptions(connection, count), "fortunes": fortunes(count)}
        for kind, texts in kinds.items():
            fill(connection, texts)
            for name, query in QUERIES.items():
                timed = pairs(
                    lambda query=query: connection.execute(query).fetchall(),
                    lambda texts=texts: peer.encode(texts),
                )
                ours = len(texts) / statistics.median(timed.ours)
                theirs = len(texts) / statistics.median(timed.peer)
                what = f"{name}, {len(texts)} {kind}, texts/s"
                yield what, f"{ours:.0f}", f"{theirs:.0f}; ours is {timed} x"


def fill(connection: psycopg.Connection, texts: list[str]) -> None:
    """Put texts into the table `doc`."""
    connection.execute("truncate doc")
    with connection.cursor() as cursor, cursor.copy("copy doc from stdin") as copy:
        for row in enumerate(texts):
            copy.write_row(row)


def latency(server: Server, peer: Peer) -> Iterator[Row]:
    """Compare the latency of one short text, ours over the socket."""
    query = "select pageformer.encode(%s, 'minilm')"
    with server.connect() as connection:
        timed = pairs(
            lambda: connection.execute(query, [QUESTION]).fetchone(),
            lambda: peer.encode([QUESTION]),
            SINGLES,
        )
    ours, theirs = percentiles(timed.ours), percentiles(timed.peer)
    yield (
        "one short text, ms, median and p99",
        f"{ours[0] * 1e3:.1f}, {ours[1] * 1e3:.1f}",
        f"{theirs[0] * 1e3:.1f}, {theirs[1] * 1e3:.1f}; ours is "
        f"{statistics.median(timed.ratios):.2f} x faster",
    )


def first_call(server: Server) -> Iterator[Row]:
    """Measure the first call of fresh connections, cold and warm, and what it is made of."""
    for state, count in (("cold", 1), ("warm", FRESH_CONNECTIONS)):
        if state == "cold":
            remove_cache(server.cluster)
        whole = statistics.median(fresh(server) for _ in range(count))
        yield f"first call of a connection, {state} cache, ms", f"{whole * 1e3:.0f}", ""
    parts = [split(server) for _ in range(FRESH_CONNECTIONS)]
    for name, times in zip(
        ("importing Python's libraries", "mapping the pages", "opening the tokenizer", "encoding"),
        zip(*parts, strict=True),
        strict=True,
    ):
        yield f"— of it {name}, ms", f"{statistics.median(times) * 1e3:.0f}", ""


def fresh(server: Server) -> float:
    """Time the first call of a fresh connection, connecting not counted."""
    with server.connect() as connection:
        query = "select pageformer.encode(%s, 'minilm')"
        return seconds(lambda: connection.execute(query, [QUESTION]))


def split(server: Server) -> list[float]:
    """Time the steps of a first call, from inside the backend."""
    told: list[str] = []
    with server.connect() as connection:
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute(files("bench").joinpath("first_call.sql").read_text())
    return [float(part) for part in told[0].split()]


def cancelling(server: Server) -> Iterator[Row]:
    """Time from asking for a cancel, at any moment of a long call, until the call has ended."""
    query = "select pageformer.encode_batch(array_agg(repeat(%s, 20) || i), 'minilm')"
    query += " from generate_series(1, 20000) i"
    with server.connect() as connection:
        connection.execute("select pageformer.encode('a', 'minilm')")
        times = percentiles([cancelled(connection, query, 0.3 + i / 500) for i in range(CANCELS)])
    middle, last = (f"{1e3 * seconds:.0f}" for seconds in times)
    yield "a cancel of `encode_batch`, ms until obeyed, median and p99", f"{middle}, {last}", ""


def cancelled(connection: psycopg.Connection, query: str, after: float) -> float:
    """Cancel a query after so many seconds; return the seconds it took to end."""
    asked = [0.0]

    def cancel() -> None:
        asked[0] = time.perf_counter()
        connection.cancel_safe()

    timer = threading.Timer(after, cancel)
    timer.start()
    with suppress(psycopg.errors.QueryCanceled):
        connection.execute(query, [QUESTION])
    ended = time.perf_counter()
    timer.join()
    return ended - asked[0]


def storage(server: Server) -> Iterator[Row]:
    """Measure what a model takes in the database, against the bytes of its parameters."""
    yield "loading the model, s", f"{server.load_seconds:.1f}", ""
    with server.connect() as connection:
        for what, query in (
            ("pages and maps", "stored"),
            ("relations on disk, indexes and TOAST included", "relations"),
        ):
            text = files("bench").joinpath(f"{query}.sql").read_text()
            row = connection.execute(text).fetchone()
            yield f"{what}, bytes per parameter byte", f"{row[0]:.3f}" if row else "", ""

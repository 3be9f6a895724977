"""What `encode` costs: texts per second beside a peer, latencies, memory, bytes."""

import statistics
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import psycopg

from bench.paired import pairs, percentiles, seconds
from bench.peer import Peer
from bench.server import Server, remove_cache
from bench.texts import descriptions, fortunes

Row = tuple[str, str, str]  # what was measured, ours, the peer's and the ratio

QUESTION = "which function rounds a number down?"
FRESH_CONNECTIONS = 9
SINGLES = 200
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
        ("importing Python's libraries", "mapping the pages", "parsing the tokenizer", "encoding"),
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


def memory(server: Server, count: int = 10) -> Iterator[Row]:
    """Measure the memory of connections that all use the model: shared once, private each."""
    connections = [server.connect() for _ in range(count)]
    try:
        for connection in connections:
            connection.execute("select pageformer.encode(%s, 'minilm')", [QUESTION])
        sizes = [smaps(connection.info.backend_pid) for connection in connections]
    finally:
        for connection in connections:
            connection.close()
    page_bytes = sum(size["cached pages, proportionally"] for size in sizes)
    private = statistics.median(size["Private_Dirty"] for size in sizes)
    yield f"pages in memory for {count} connections, MB", f"{page_bytes / 1e6:.0f}", ""
    yield "private memory of each, MB", f"{private / 1e6:.0f}", ""


def smaps(pid: int) -> dict[str, int]:
    """Sum up a process's memory in bytes: private, and its share of cached pages."""
    sums = {"Private_Dirty": 0, "cached pages, proportionally": 0}
    cached = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if " " in name:  # the head of a mapping: addresses, file
            cached = "/pageformer-" in line
        elif name == "Private_Dirty":
            sums[name] += int(rest.split()[0]) * 1024
        elif name == "Pss" and cached:
            sums["cached pages, proportionally"] += int(rest.split()[0]) * 1024
    return sums


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

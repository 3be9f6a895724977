"""What so many texts would take: rates measured here, a formula, and a simulated queue.

per text  c = encoding, d = reading + writing, k = cutting      (seconds of one core, measured)
hours     rows * max((c + d) / workers, d / database cores, k) / 3600
bytes     rows * (text + vector) + nodes * pages
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from pageformer import client
from pageformer.errors import UnknownName
from pageformer.scaling import binary_copy
from pageformer.scaling.simulation import Item, Outcome, Setting, simulate
from pageformer.scaling.text_encoder import open_version, undisturbed
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.scaling", "plan.sql")
BATCH = 256
BYTES_PER_TOKEN = 5  # 'word ' is one token of five bytes; English prose has four to five
WARM_TOKENS, TIMED_TOKENS = 256, 16_384
ITEMS = 4  # are written to measure the database


@dataclass(frozen=True)
class Rates:
    """Seconds that a text takes here, one core working, and bytes that it moves."""

    cutting: float
    reading: float
    encoding: float
    writing: float
    text_bytes: int
    vector_bytes: int
    page_bytes: int

    def item(self, rows: int = BATCH) -> Item:
        """Return what a work item takes."""
        parts = self.cutting, self.reading, self.encoding, self.writing
        return Item(*(rows * seconds for seconds in parts))

    def hours(self, rows: float, workers: int, database_cores: int) -> float:
        """Return the formula's hours."""
        database = self.reading + self.writing
        slowest = max((self.encoding + database) / workers, database / database_cores, self.cutting)
        return rows * slowest / 3600

    def bytes(self, rows: float, nodes: int) -> float:
        """Return how many bytes leave and enter the database."""
        return rows * (self.text_bytes + self.vector_bytes) + nodes * self.page_bytes


def measure(dsn: str | None, model: str, tokens: int) -> Rates:
    """Measure what a text of so many tokens takes here; what is written is temporary.

    Raises UnknownName, MissingGrant.
    """
    with client.connect(dsn) as connection:
        found = client.fetch(connection, QUERIES["model"], [model])
        if not found:
            raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
        [row] = found
        encoding = measure_encoding(client.choose_dsn(dsn), row["hash"], row["compute"], tokens)
        text = tokens * BYTES_PER_TOKEN
        cutting, reading, writing = measure_database(connection, tokens, row["dimension"])
        connection.rollback()
    return Rates(
        cutting, reading, encoding, writing, text, 4 * row["dimension"] + 4, row["page_bytes"]
    )


def measure_encoding(dsn: str, hash: bytes, compute: str, tokens: int) -> float:
    """Return the seconds of one core that a text takes."""
    opened = open_version(dsn, hash, compute, alone=True)
    config, chance = opened.version.config, Random(0)
    length = min(tokens, config.max_length or tokens)

    def run(total: int) -> int:
        texts = max(1, total // length)
        ids = [[chance.randrange(config.vocabulary) for _ in range(length)] for _ in range(texts)]
        opened.encoder.vectors(ids, None, None, undisturbed)
        return texts

    run(WARM_TOKENS)
    begun = time.perf_counter()
    texts = run(TIMED_TOKENS)
    return (time.perf_counter() - begun) / texts


def measure_database(
    connection: client.Connection, tokens: int, dimension: int
) -> tuple[float, float, float]:
    """Return the seconds that a text takes to be cut, read and written."""
    for name in ("make_texts", "make_staged"):
        connection.execute(QUERIES[name])
    connection.execute(QUERIES["fill_texts"], [ITEMS * BATCH, tokens])
    vector = ",".join(["0.0123456789"] * dimension)
    sums = [0.0, 0.0, 0.0]
    for number in range(ITEMS):
        steps = timed_item(connection, number * BATCH, [f"[{vector}]"] * BATCH)
        sums = [total + seconds for total, seconds in zip(sums, steps, strict=True)]
    cutting, reading, writing = (total / (ITEMS * BATCH) for total in sums)
    return cutting, reading, writing


def timed_item(
    connection: client.Connection, after: int, vectors: list[str]
) -> tuple[float, float, float]:
    """Cut, read and write one item, and tell how long each took."""
    times = [time.perf_counter()]
    connection.execute(QUERIES["next_item"], [after, len(vectors)]).fetchall()
    times.append(time.perf_counter())
    connection.execute(QUERIES["read_item"], [after, len(vectors)]).fetchall()
    times.append(time.perf_counter())
    with connection.cursor() as cursor, cursor.copy(QUERIES["stage"]) as copy:
        copy.write(b"".join(binary_copy.rows(vectors)))
    connection.execute(QUERIES["write_item"], [after])
    times.append(time.perf_counter())
    connection.execute(b"truncate pg_temp.pageformer_staged")
    return times[1] - times[0], times[2] - times[1], times[3] - times[2]


def outcomes(
    rates: Rates, rows: float, cores: int, database_cores: int, losses_per_hour: float
) -> Iterator[tuple[int, Outcome]]:
    """Yield what comes of 1 to 1,000 nodes."""
    for nodes in (1, 3, 10, 30, 100, 300, 1000):
        setting = Setting(
            nodes, cores, cores, database_cores, losses_per_hour=losses_per_hour
        )  # fmt: skip
        yield nodes, simulate(rates.item(), setting, max(1, round(rows / BATCH)))

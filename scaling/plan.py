"""What so many texts would take: rates measured here, a formula, and a simulated queue.

per text  c = encoding, d = reading + writing, k = cutting + handing out    (seconds of a core)
hours     rows * max((c + d) / workers, d / database cores, k) / 3600
bytes     rows * (text + vector) + nodes * pages
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from psycopg.rows import DictRow

from pageformer import client
from pageformer.embed import connected, ranges
from pageformer.embedded_column import Request, prepare
from pageformer.errors import UnknownName
from pageformer.scaling import item
from pageformer.scaling.actors import driver_seconds
from pageformer.scaling.calibration import core_seconds
from pageformer.scaling.item import Done, Encoded
from pageformer.scaling.simulation import Item, Outcome, Setting, simulate
from pageformer.scaling.text_encoder import open_version
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.scaling", "plan.sql")
BATCH = 256
WORD = "word"  # a token of five bytes with its space; English prose has four to five
CALL_TOKENS = 4096
ITEMS = 8  # are written to measure the database
TABLE = "pg_temp.pageformer_planned"


@dataclass(frozen=True)
class Rates:
    """Seconds of a core that a text takes here, and bytes that it moves."""

    handing_out: float
    cutting: float
    reading: float
    writing: float
    encoding: float
    text_bytes: int
    vector_bytes: int
    page_bytes: int

    @property
    def driving(self) -> float:
        """Return the driver's seconds."""
        return self.handing_out + self.cutting

    def item(self, rows: int = BATCH) -> Item:
        """Return what a work item takes."""
        parts = self.driving, self.reading, self.encoding, self.writing
        return Item(*(rows * seconds for seconds in parts))

    def hours(self, rows: float, workers: int, database_cores: int) -> float:
        """Return the formula's hours."""
        database = self.reading + self.writing
        slowest = max((self.encoding + database) / workers, database / database_cores, self.driving)
        return rows * slowest / 3600

    def bytes(self, rows: float, nodes: int) -> float:
        """Return how many bytes leave and enter the database."""
        return rows * (self.text_bytes + self.vector_bytes) + nodes * self.page_bytes


def measure(dsn: str | None, model: str, texts: Sequence[str], processes: int) -> Rates:
    """Measure what such texts take here, so many processes encoding; nothing of it stays.

    texts: what a process encodes at a time. Raises UnknownName, MissingGrant, ServerUnready.
    """
    chosen = client.choose_dsn(dsn)
    with client.connect(dsn) as connection:
        row = deployed(connection, model)
    encoding = core_seconds(chosen, (row["hash"], row["compute"]), texts, processes)
    with connected(chosen) as connection:
        database = measure_database(connection, model, texts, row["dimension"])
    handing_out = driver_seconds() / BATCH if find_spec("ray") else 0.0
    text_bytes = round(sum(len(text.encode()) for text in texts) / len(texts))
    moved = text_bytes, 4 * row["dimension"] + 4, row["page_bytes"]
    return Rates(handing_out, *database, encoding, *moved)


def deployed(connection: client.Connection, model: str) -> DictRow:
    """Look up the deployed version of a model; raise UnknownName where there is none."""
    found = client.fetch(connection, QUERIES["model"], [model])
    if not found:
        raise UnknownName(f'there is no model "{model}"', hint="pageformer models")
    return found[0]


def texts_of(dsn: str | None, model: str, tokens: int) -> list[str]:
    """Make the texts of one call of an encoder, of so many tokens each."""
    with client.connect(dsn) as connection:
        row = deployed(connection, model)
    opened = open_version(client.choose_dsn(dsn), row["hash"], row["compute"], alone=True)
    around = len(opened.version.tokenizer.encode("", "right").ids)
    text = " ".join([WORD] * max(1, tokens - around))
    return [text] * max(1, min(BATCH, CALL_TOKENS // tokens))


def measure_database(
    connection: client.Connection, model: str, texts: Sequence[str], dimension: int
) -> tuple[float, float, float]:
    """Return the seconds that a text takes to be cut, read and written, by the queries of items."""
    ready = Encoded([f"[{','.join(['0.0123456789'] * dimension)}]"] * BATCH, 0)
    with connection.transaction(force_rollback=True):
        connection.execute(QUERIES["make_texts"])
        connection.execute(QUERIES["fill_texts"], [texts, ITEMS * BATCH])
        column = prepare(connection, Request(TABLE, "body", "embedding", model))
        item.prepare(connection, column)
        begun = time.perf_counter()
        pieces = list(ranges(connection, column, BATCH))
        cutting = time.perf_counter() - begun
        done = Done()
        for piece in pieces:
            done += item.work(connection, piece, lambda texts: ready)
            connection.execute(QUERIES["empty_item"])  # as a commit would
    return cutting / done.rows, done.reading / done.rows, done.writing / done.rows


def outcomes(
    rates: Rates, rows: float, cores: int, database_cores: int, losses_per_hour: float
) -> Iterator[tuple[int, Outcome]]:
    """Yield what comes of 1 to 1,000 nodes."""
    for nodes in (1, 3, 10, 30, 100, 300, 1000):
        setting = Setting(
            nodes, cores, cores, database_cores, losses_per_hour=losses_per_hour
        )  # fmt: skip
        yield nodes, simulate(rates.item(), setting, max(1, round(rows / BATCH)))

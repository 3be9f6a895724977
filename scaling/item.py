"""One work item: a range of rows, taken, encoded and written in one transaction.

What is written is decided when it is written. The rows are locked first, so that another worker
that had the same ones has committed or died; the statement after that sees what it did, and writes
rows that still wait and whose text is still the one that was encoded. So a row is written once for
a version, whoever else is given it, and one that changed meanwhile is left as it is.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pageformer import client
from pageformer.embed import Range
from pageformer.embedded_column import Column
from pageformer.scaling import binary_copy
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.scaling", "item.sql")


class Encoded(NamedTuple):
    """Hold the vectors of some texts, as SQL's texts, and how many of the texts were cut."""

    vectors: Sequence[str]
    cut: int


Encode = Callable[[Sequence[str]], Encoded]


@dataclass(frozen=True)
class Done:
    """Count what came of items: rows written, texts that were cut, and where the seconds went.

    processor: seconds of the worker's processors; the others are of its clock.
    """

    rows: int = 0
    cut: int = 0
    reading: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(*(getattr(self, name) + getattr(other, name) for name in self.__match_args__))


def prepare(connection: client.Connection, column: Column) -> None:
    """Make the tables that this connection keeps an item in while it works on it."""
    connection.execute(QUERIES["settings"])
    connection.execute(QUERIES["name_worker"], [f"pageformer worker {os.getpid()}"])
    for name in ("make_item", "make_vectors"):
        connection.execute(column.filled(QUERIES[name]))


def work(connection: client.Connection, piece: Range, encode: Encode) -> Done:
    """Encode the rows of a range that wait, write their vectors, and remember the version."""
    with connection.transaction():
        begun, computed = time.monotonic(), time.process_time()
        texts = [text for (text,) in run(connection, "take", piece).fetchall()]
        read = time.monotonic()
        encoded = encode(texts)
        staged = b"".join(binary_copy.rows(encoded.vectors))
        made = time.monotonic()
        rows = write(connection, piece, staged) if texts else 0
    now, processor = time.monotonic(), time.process_time() - computed
    return Done(rows, encoded.cut, read - begun, made - read, now - made, processor)


def write(connection: client.Connection, piece: Range, staged: bytes) -> int:
    """Write the vectors of the rows that were taken, where they still stand as they did.

    staged: as binary_copy has them.
    """
    with connection.cursor() as cursor, cursor.copy(QUERIES["stage"]) as copy:
        copy.write(staged)
    run(connection, "lock", piece)
    return run(connection, "write", piece).rowcount


def run(connection: client.Connection, name: str, piece: Range) -> client.Cursor:
    """Run a statement about the rows of a range."""
    statement = piece.column.filled(QUERIES[name], keys_from=4)
    return connection.execute(statement, piece.parameters())

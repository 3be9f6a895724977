"""What naming blocks and looking for them costs: `python -m bench.loading`.

Loads a model exactly, and beside it writes the same pages with blocks that are numbered, not hashed
or looked for; by turns, each into a database that is empty. Writes bench/results/loading.md.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
from psycopg import RawCursor

from bench.conditions import conditions
from bench.server import model_directory
from bench.variants import cluster, database
from pageformer.dedup.pages import Kind, pack
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader.cut import choose_side, grid_shape, sheets, tile
from pageformer.loader.load import load
from pageformer.loader.tables import Tables

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "loading.md"
Connection = psycopg.Connection[tuple[object, ...]]


def main() -> None:
    """Measure by turns, print the table and write it."""
    base = model_directory()
    named: list[float] = []
    numbered: list[float] = []
    with cluster() as running:
        for _ in range(ROUNDS):
            for way, found in ((exactly, named), (without_names, numbered)):
                with database(running) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
                    found.append(seconds(way, connection, base))
    RESULTS.write_text(table(named, numbered), encoding="utf-8")
    print(RESULTS.read_text())


def exactly(connection: Connection, source: Path) -> None:
    """Load with deduplication."""
    load(connection, source, name="base")


def without_names(connection: Connection, source: Path) -> None:
    """Write all blocks as they come."""
    with connection.transaction(), RawCursor(connection) as cursor:
        Tables(cursor).insert_pages(pack(blocks(source)))


def blocks(source: Path) -> Iterator[tuple[Kind, bytes, memoryview]]:
    """Cut every tensor, and number its blocks."""
    weights, number = checkpoints.read(source).weights, count()
    side = choose_side(weights)
    for sheet in sheets(weights, side):
        rows, cols = grid_shape(*sheet.array.shape, side)
        for place in range(rows * cols):
            data = tile(sheet.array, *divmod(place, cols), side)
            yield Kind(sheet.form, side, side), next(number).to_bytes(32), data


def seconds(way: Callable[[Connection, Path], None], connection: Connection, source: Path) -> float:
    """Time one load."""
    begin = time.perf_counter()
    way(connection, source)
    return time.perf_counter() - begin


def table(named: list[float], numbered: list[float]) -> str:
    """Write the page."""
    ratios = sorted(a / b for a, b in zip(named, numbered, strict=True))
    return "\n".join(
        [
            "| all-MiniLM-L6-v2 into an empty database | s, median |",
            "|---|---|",
            f"| exact: blocks hashed, looked for, written | {statistics.median(named):.2f} |",
            f"| the same pages, blocks numbered | {statistics.median(numbered):.2f} |",
            f"| ratio, median (lowest to highest) of {len(ratios)} pairs "
            f"| {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |",
            "",
            conditions().partition(" Median")[0],
            "",
        ]
    )


if __name__ == "__main__":
    main()

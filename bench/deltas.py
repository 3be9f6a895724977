"""Where differences are added to their bases: as a page enters the cache, or at every product.

`python -m bench.deltas` adds differences of two bits to the linear maps of a model, as the page
cache does once, and beside it does the least that an operator would have to do in every pass: bring
each base block and its codes into the processor and write their sum into one block that stays in
its cache. Both stand beside what a pass takes. Writes bench/results/deltas.md.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.conditions import conditions
from bench.paired import seconds
from bench.server import model_directory, server
from pageformer.dedup.quantise import quantise
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader.cut import choose_side, grid_shape, sheets, tile
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import TWO_BITS, Delta, apply, pack_record, unpack_record

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "deltas.md"
SHORT = ("which function rounds down",)
LONG = ("which function rounds a number down to the next whole one, and which one rounds up",) * 32
Run = Callable[[], None]


def main() -> None:
    """Measure by turns, print the table and write it."""
    bases = blocks()
    differences = [difference(block) for block in bases]
    records = [pack_record(one) for one in differences]
    scratch = np.empty_like(bases[0])

    def enter() -> None:
        for base, record in zip(bases, records, strict=True):
            apply(base, unpack_record(record, *base.shape))

    def touch() -> None:
        for base, one in zip(bases, differences, strict=True):
            np.add(base, one.codes, out=scratch)

    with server() as running, running.connect() as connection:

        def encode(texts: tuple[str, ...]) -> Run:
            query = "select pageformer.encode_batch(%s::text[], 'minilm')"
            return lambda: connection.execute(query, (list(texts),)).close()

        ways = (enter, touch, encode(SHORT), encode(LONG))
        for way in ways:
            way()
        found = [[1e3 * seconds(way) for way in ways] for _ in range(ROUNDS)]
    RESULTS.write_text(table(np.median(found, axis=0), bases, records), encoding="utf-8")
    print(RESULTS.read_text())


def blocks() -> list[Array]:
    """Cut the model's linear maps; of tables, a pass reads a few rows only."""
    weights = checkpoints.read(model_directory()).weights
    side = choose_side(weights)
    return [
        np.frombuffer(tile(sheet.array, row, col, side), np.float32).reshape(side, side)
        for sheet in sheets(weights, side)
        if sheet.name.startswith("layer")
        for row, col in np.ndindex(*grid_shape(*sheet.array.shape, side))
    ]


def difference(base: Array) -> Delta:
    """Quantise a difference as large as a fine-tune's."""
    random = np.random.default_rng(base.size)
    return quantise(random.normal(0, 0.002, base.shape).astype(np.float32), TWO_BITS)


def table(medians: Array, bases: list[Array], records: list[bytes]) -> str:
    """Write the page."""
    entering, touching, short, long = medians
    held = sum(base.nbytes for base in bases) / 1e6
    lines = [
        f"| {len(bases):,} blocks of all-MiniLM-L6-v2's layers, differences of two bits | |",
        "|---|---|",
        f"| added once, as pages enter the cache, ms | {entering:.0f} |",
        f"| held in the page cache, MB, beside differences of {sum(map(len, records)) / 1e6:.1f} "
        f"| {held:.1f} |",
        f"| added in every pass, all of them, at least, ms | {touching:.1f} |",
        f"| a pass over one text of {len(SHORT[0].split())} words, through SQL, ms | {short:.1f} |",
        f"| a pass over {len(LONG)} texts of {len(LONG[0].split())} words, ms | {long:.1f} |",
    ]
    return "\n".join([*lines, "", conditions().partition(" Median")[0], ""])


if __name__ == "__main__":
    main()

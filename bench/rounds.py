"""Many ways of doing one thing, in rounds: each runs once a round, beside the one all compare with.

A ratio is of two runs of the same round, so that a noisy machine is noisy for both.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.paired import seconds

Vectors = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Contestant:
    """A way to encode: how to make it ready, to run it, and the vectors that come of it."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    vectors: Callable[[], Vectors] | None = None


class Row(NamedTuple):
    """A line of a table; ratios tell how many times faster than the first each run was."""

    name: str
    rate: float  # texts/s, the median
    ratios: list[float]
    cosine: tuple[float, float] | None  # to float32: the lowest and the mean


def race(contestants: Sequence[Contestant], texts: int, count: int = 5) -> list[Row]:
    """Run all in `count` rounds, after one that is not counted; they compare with the first."""
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(count + 1):
        for contestant in contestants:
            print(f"\r\x1b[Kround {number} of {count}: {contestant.name}", end="", file=sys.stderr)
            contestant.prepare()
            time = seconds(contestant.run)
            if number:
                taken[contestant.name].append(time)
    print("\r\x1b[K", end="", file=sys.stderr)
    base = taken[contestants[0].name]
    return [row(contestant, taken[contestant.name], base, texts) for contestant in contestants]


def row(contestant: Contestant, taken: list[float], base: list[float], texts: int) -> Row:
    """Sum a contestant's rounds up."""
    ratios = [theirs / ours for ours, theirs in zip(taken, base, strict=True)]
    return Row(contestant.name, texts / statistics.median(taken), ratios, None)


def compare(rows: list[Row], contestants: Sequence[Contestant], wide: Vectors) -> list[Row]:
    """Add to each row how near its vectors are to those of float32."""
    compared = []
    for found, contestant in zip(rows, contestants, strict=True):
        contestant.prepare()
        near = contestant.vectors and cosines(contestant.vectors(), wide)
        compared.append(found._replace(cosine=near or None))
    return compared


def cosines(ours: Vectors, theirs: Vectors) -> tuple[float, float]:
    """Return the lowest and the mean cosine of two lists of vectors of length 1."""
    found = [sum(map(float.__mul__, a, b)) for a, b in zip(ours, theirs, strict=True)]
    return min(found), statistics.fmean(found)

"""Where arrays lie in one piece of memory when their lifetimes are known: no two at once meet.

TurboTransformers (Fang et al. 2021, section 4.2) plans each request's intermediate arrays anew,
from their lifetimes in the pass. Arrays are placed largest first, each in the smallest gap that
takes it (Pisarchyk and Lee 2020, greedy by size); a second order, by the end of life, sometimes
needs less, and the better plan is taken.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

ALIGNMENT = 256  # bytes: what vector loads and cuBLAS want


class Lifetime(NamedTuple):
    """Say how large an array is, and from which moment to which it is wanted, both included."""

    bytes: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Tell whether both are wanted at some moment."""
        return self.first <= other.last and other.first <= self.last


class Plan(NamedTuple):
    """Say where each array begins, how much memory all take, and the least that any plan takes."""

    offsets: tuple[int, ...]
    footprint: int
    bound: int


def aligned(size: int) -> int:
    """Round bytes up to where the next array may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(lifetimes: Sequence[Lifetime]) -> Plan:
    """Place arrays; no two whose lifetimes meet overlap."""
    plans = (placed(lifetimes, order) for order in ORDERS)
    offsets = min(plans, key=lambda offsets: footprint(lifetimes, offsets))
    return Plan(offsets, footprint(lifetimes, offsets), bound(lifetimes))


# The order in which arrays choose their places.
ORDERS: tuple[Callable[[Lifetime], tuple[int, int]], ...] = (
    lambda array: (-array.bytes, array.first),
    lambda array: (-array.last, -array.bytes),
)


def placed(
    lifetimes: Sequence[Lifetime], order: Callable[[Lifetime], tuple[int, int]]
) -> tuple[int, ...]:
    """Place arrays in some order, each in the smallest gap between those that it meets."""
    offsets: dict[int, int] = {}
    for i in sorted(range(len(lifetimes)), key=lambda i: order(lifetimes[i])):
        taken = sorted(
            (offset, offset + aligned(lifetimes[j].bytes))
            for j, offset in offsets.items()
            if lifetimes[i].meets(lifetimes[j])
        )
        offsets[i] = smallest_gap(taken, aligned(lifetimes[i].bytes))
    return tuple(offsets[i] for i in range(len(lifetimes)))


def smallest_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return where the smallest gap begins that takes `size` bytes; behind all, if none does."""
    best, begin = None, 0
    for start, stop in taken:
        if start - begin >= size and (best is None or start - begin < best[0]):
            best = (start - begin, begin)
        begin = max(begin, stop)
    return begin if best is None else best[1]


def footprint(lifetimes: Sequence[Lifetime], offsets: Sequence[int]) -> int:
    """Count the bytes from the beginning to the end of the last array."""
    ends = (o + aligned(array.bytes) for o, array in zip(offsets, lifetimes, strict=True))
    return max(ends, default=0)


def bound(lifetimes: Sequence[Lifetime]) -> int:
    """Count the bytes that live at once when most do: no plan takes less."""
    moments = {array.first for array in lifetimes}
    live = (
        sum(aligned(array.bytes) for array in lifetimes if array.first <= now <= array.last)
        for now in moments
    )
    return max(live, default=0)

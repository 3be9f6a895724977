"""Which of the waiting requests are computed together.

An exact dynamic programme over requests in the order of their lengths (Fang et al. 2021,
TurboTransformers, section 5): with the i shortest of them,

    S[i] = min over j of  S[j] + cost(requests j .. i)

where cost is measured (see timings.py). Theirs depends on the longest request and on their number,
since shorter ones are padded; ours are not, so it depends on all their tokens and on the longest.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

Cost = Callable[[int, int], float]  # tokens, the longest of the sequences -> seconds


class Size(NamedTuple):
    """Hold the size of a request: its tokens, and the longest of its sequences."""

    tokens: int
    longest: int


Plan = list[list[int]]  # batches of indices into the requests


def by_cost(sizes: Sequence[Size], cost: Cost, most: int) -> Plan:
    """Cut the requests, ordered by length, into batches that take the least time together.

    most: tokens of a batch; a request that has more by itself is a batch of its own.
    """
    order = sorted(range(len(sizes)), key=lambda i: sizes[i].longest)
    before = [0, *accumulate(sizes[i].tokens for i in order)]
    best, begin = [0.0], [0]
    for i in range(1, len(order) + 1):
        longest = sizes[order[i - 1]].longest
        first = i - 1
        while first > 0 and before[i] - before[first - 1] <= most:
            first -= 1
        seconds, j = min(
            (best[j] + cost(before[i] - before[j], longest), j) for j in range(first, i)
        )
        best.append(seconds)
        begin.append(j)
    return _batches(order, begin)


def _batches(order: Sequence[int], begin: Sequence[int]) -> Plan:
    """Read the batches off, from the last to the first."""
    plan = []
    i = len(order)
    while i:
        plan.append(list(order[begin[i] : i]))
        i = begin[i]
    return plan[::-1]


def one_by_one(sizes: Sequence[Size], cost: Cost, most: int) -> Plan:
    """Compute each request alone."""
    return [[i] for i in range(len(sizes))]


def fixed(sizes: Sequence[Size], cost: Cost, most: int, count: int = 16) -> Plan:
    """Put every `count` requests together, in the order in which they came."""
    every = range(len(sizes))
    return [list(every[i : i + count]) for i in range(0, len(sizes), count)]


def packed(sizes: Sequence[Size], cost: Cost, most: int) -> Plan:
    """Fill batches up to `most` tokens, in the order in which the requests came."""
    plan: Plan = []
    tokens = most + 1
    for i, size in enumerate(sizes):
        if tokens + size.tokens > most:
            plan.append([])
            tokens = 0
        plan[-1].append(i)
        tokens += size.tokens
    return plan


POLICIES = {"cost": by_cost, "none": one_by_one, "fixed": fixed, "tokens": packed}

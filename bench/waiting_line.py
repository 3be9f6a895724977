"""The scheduler under Poisson arrivals, simulated with costs that were measured.

A machine that others use as well hides what a policy does to the last per cent of requests; here
nothing but the policy differs.
"""

import random
from collections.abc import Sequence
from heapq import heappop, heappush

from pageformer.serving.schedule import POLICIES, Size
from pageformer.serving.timings import Timings
from pageformer.serving.waiting import LOOKED_AT, TOKENS

MEASURED = Timings(fixed=1.0e-3, token=0.21e-3, attention=9e-8)  # MiniLM, one core
CORES = 2
REQUESTS = 4000

Waiting = tuple[float, int]  # when it came, its tokens


def saturation(lengths: Sequence[int], timings: Timings = MEASURED, cores: int = CORES) -> float:
    """Return the requests a second that the cores can do one by one."""
    return cores * len(lengths) / sum(timings.cost(length, length) for length in lengths)


def latencies(
    policy: str,
    lengths: Sequence[int],
    rate: float,
    timings: Timings = MEASURED,
    cores: int = CORES,
) -> list[float]:
    """Return how long each request took, sorted: a worker on each core, hungry."""
    coming = arrivals(lengths, rate)[::-1]
    free, found = [0.0] * cores, list[float]()
    queue: list[Waiting] = []
    while coming or queue:
        now = heappop(free)
        if not queue:
            now = max(now, coming[-1][0])
        while coming and coming[-1][0] <= now:
            queue.append(coming.pop())
        batch, queue = chosen(policy, queue, timings)
        sizes = [tokens for _, tokens in batch]
        now += timings.cost(sum(sizes), max(sizes))
        found += [now - came for came, _ in batch]
        heappush(free, now)
    return sorted(found)


def arrivals(lengths: Sequence[int], rate: float) -> list[Waiting]:
    """Let requests come as a Poisson process has them."""
    source, at = random.Random(0), 0.0
    found = []
    for i in range(REQUESTS):
        at += source.expovariate(rate)
        found.append((at, lengths[i % len(lengths)]))
    return found


def chosen(
    policy: str, queue: list[Waiting], timings: Timings
) -> tuple[list[Waiting], list[Waiting]]:
    """Take the batch that has the oldest request in it; return it, and what is left."""
    sizes = [Size(tokens, tokens) for _, tokens in queue[:LOOKED_AT]]
    plan = POLICIES[policy](sizes, timings.cost, TOKENS)
    [taken] = [set(batch) for batch in plan if 0 in batch]
    batch = [waiting for i, waiting in enumerate(queue) if i in taken]
    return batch, [waiting for i, waiting in enumerate(queue) if i not in taken]

"""Hit ratios of cache policies over a trace, and of the best that knows the future.

The policies and the forecast are those of the page cache; pages are of one size.
"""

import heapq

import numpy as np

from bench.traces import Trace
from pageformer.udfs.page_cache.eviction import HEAD, POLICIES, SLOT, Forecast, Held, displaces

NEVER = 1 << 62


def simulate(trace: Trace, capacity: int, policy: str) -> float:
    """Return the hit ratio of an online policy in a cache of `capacity` pages."""
    cache = Cache(trace, capacity, policy)
    for version in trace.requests:
        cache.request(version)
    return cache.hits / sum(len(trace.pages[version]) for version in trace.requests)


class Cache:
    """Hold pages of one size by a policy."""

    def __init__(self, trace: Trace, capacity: int, policy: str) -> None:
        self._capacity = capacity
        self._policy = policy
        self._versions = trace.pages
        self._forecast = Forecast([0.0] * (HEAD + SLOT * len(trace.pages)))
        pages = 1 + max(int(pages.max()) for pages in trace.pages)
        self._held = np.zeros(pages, bool)
        self._used = np.zeros(pages)
        self._accesses = self._holding = self.hits = 0

    def request(self, version: int) -> None:
        """Read the pages of a version, one after another."""
        self._forecast.count(version)
        rates = self._rates()
        for page in self._versions[version].tolist():
            self._accesses += 1
            self._used[page] = self._accesses
            if self._held[page]:
                self.hits += 1
            else:
                self._bring(page, rates)

    def _rates(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        rates = np.zeros(len(self._held))
        for version, pages in enumerate(self._versions):
            rates[pages] += self._forecast.rate(version)
        return rates

    def _bring(self, page: int, rates: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
        if self._holding == self._capacity:
            worth = POLICIES[self._policy](Held(1, 1, rates, self._used))
            least = int(np.where(self._held, worth, np.inf).argmin())
            if not displaces(self._policy, worth[page], worth[least]):
                return
            self._held[least] = False
            self._holding -= 1
        self._held[page] = True
        self._holding += 1


def belady(trace: Trace, capacity: int) -> float:
    """Return the best hit ratio that is possible: what is wanted last goes, or is not kept at all.

    Belady 1966, with bypass.
    """
    accesses = np.concatenate([trace.pages[version] for version in trace.requests]).tolist()
    upcoming = next_uses(accesses)
    held: dict[int, int] = {}  # page -> when it is wanted next
    latest: list[tuple[int, int]] = []  # (-when, page), stale ones among them
    hits = 0
    for page, when in zip(accesses, upcoming, strict=True):
        hits += page in held
        held[page] = when
        heapq.heappush(latest, (-when, page))
        while len(held) > capacity:
            last, candidate = heapq.heappop(latest)
            if held.get(candidate) == -last:
                del held[candidate]
    return hits / len(accesses)


def next_uses(accesses: list[int]) -> list[int]:
    """Return for each access when the same page is accessed next."""
    upcoming, seen = [NEVER] * len(accesses), {}
    for i in range(len(accesses) - 1, -1, -1):
        upcoming[i] = seen.get(accesses[i], NEVER + accesses[i])
        seen[accesses[i]] = i
    return upcoming

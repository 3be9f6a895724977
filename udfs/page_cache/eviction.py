"""Which pages are worth their room: policies and a forecast, from counts alone.

Knows no file, no process and no database: whoever holds pages (the files of the page cache, arrays
on a device, a simulator) describes each by four numbers, or all of them by four arrays.
"""

from collections.abc import Callable, MutableSequence
from math import exp2
from typing import Any, NamedTuple

# How often a version will be asked for is guessed from its past, which each guess forgets at a
# speed of its own (half-lives in requests): none suits steady favourites, new ones and scans.
HALF_LIVES = (0.5, 2.0, 8.0, 32.0, 128.0, 512.0)
FADES = tuple(exp2(-1 / half_life) for half_life in HALF_LIVES)  # with each request
UNEXPECTED = 0.01  # of each guess is left for what it does not foresee
DEALT_ANEW = 0.02  # of the trust, with each request: no guess is out for good
HEAD = 1 + len(HALF_LIVES)  # numbers: requests so far; the trust in each guess
SLOT = 1 + len(HALF_LIVES)  # numbers: the request that asked for it last; its count in each guess
MARGIN = 1.5  # a page takes the place of another when it is worth so much more


class Held(NamedTuple):
    """Describe a page that is held; or several, by arrays."""

    bytes: Any
    cost: Any  # of making it again, in bytes to be read
    rate: Any  # the share of requests that want it, summed over the versions that it belongs to
    used: Any  # the request that wanted it last


# What a page is worth; what is worth least goes first.
POLICIES: dict[str, Callable[[Held], Any]] = {
    "lru": lambda held: held.used,
    "mru": lambda held: -held.used,
    "sharing": lambda held: held.rate * held.cost / held.bytes,
}


def displaces(policy: str, new: float, least: float) -> bool:
    """Tell whether a new page is to take the place of the one that is worth least.

    By recency it always is. By worth it must be worth clearly more: among equals, those that are
    there stay, since a scan that replaces what it comes back to finds nothing.
    """
    return policy != "sharing" or new > MARGIN * least


class Forecast:
    """Forecast each version's share of the requests to come, from those that came.

    Decayed counts of several half-lives, mixed by how well each foretold the requests so far, with
    some trust dealt anew each time (fixed share, Herbster and Warmuth 1998). The state is a flat
    sequence of `HEAD + SLOT * versions` numbers, all zero at first: a list, or shared memory.
    """

    def __init__(self, numbers: "MutableSequence[float] | memoryview[float]") -> None:
        self._numbers = numbers

    @property
    def requests(self) -> float:
        """Return how many requests were counted."""
        return self._numbers[0]

    def count(self, version: int) -> None:
        """Count a request for the version in slot `version`."""
        counts, trust = self._counts(version), self._trust()
        shares = self._shares(counts)
        foretold = [
            t * (UNEXPECTED + (1 - UNEXPECTED) * s) for t, s in zip(trust, shares, strict=True)
        ]
        total = sum(foretold)
        for k, part in enumerate(foretold):
            self._numbers[1 + k] = (1 - DEALT_ANEW) * part / total + DEALT_ANEW / len(foretold)
        slot = HEAD + SLOT * version
        self._numbers[0] += 1
        self._numbers[slot] = self.requests
        for k, fade in enumerate(FADES):
            self._numbers[slot + 1 + k] = counts[k] * fade + 1

    def rate(self, version: int) -> float:
        """Return the version's share of the requests to come, from 0 to 1."""
        shares = self._shares(self._counts(version))
        return sum(t * s for t, s in zip(self._trust(), shares, strict=True))

    def used(self, version: int) -> float:
        """Return the number of the request that asked for the version last; 0: none."""
        return self._numbers[HEAD + SLOT * version]

    def forget(self, version: int) -> None:
        """Empty a slot: its version is gone, or makes room for another."""
        slot = HEAD + SLOT * version
        for place in range(slot, slot + SLOT):
            self._numbers[place] = 0

    def _trust(self) -> list[float]:
        trust = list(self._numbers[1:HEAD])
        return trust if any(trust) else [1 / len(trust)] * len(trust)

    def _counts(self, version: int) -> list[float]:
        """Return the version's counts as they have faded by now."""
        slot = HEAD + SLOT * version
        age = self.requests - self._numbers[slot]
        counts = self._numbers[slot + 1 : slot + SLOT]
        return [c * exp2(-age / h) for c, h in zip(counts, HALF_LIVES, strict=True)]

    def _shares(self, counts: list[float]) -> list[float]:
        """Return a version's share of all requests, as each guess remembers them."""
        requests = self.requests
        if not requests:
            return [0.0] * len(counts)
        each = zip(counts, HALF_LIVES, FADES, strict=True)
        return [c * (1 - fade) / (1 - exp2(-requests / h)) for c, h, fade in each]

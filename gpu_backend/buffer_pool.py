"""Arrays on the device that can be made again, kept under a limit of bytes.

Pages and the matrices gathered from them share the room. What goes first is said by the policies of
the page cache (udfs/page_cache/eviction.py), from counts of how often each was asked for.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from pageformer.udfs.page_cache.eviction import POLICIES, Held, displaces

Make = Callable[[], Any]


@dataclass
class Kept:
    """Hold an array and what is known of it."""

    array: Any
    bytes: int
    cost: int
    asked: int
    used: int


class BufferPool:
    """Keep arrays by key; one that is given out lives on while somebody has it, kept or not."""

    def __init__(self, limit: int, policy: str = "sharing") -> None:
        self.limit = limit
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self._policy = policy
        self._kept: dict[Hashable, Kept] = {}

    def get(self, key: Hashable, size: int, make: Make, cost: int | None = None) -> Any:
        """Return the array of a key, made anew where it is not held.

        size: its bytes; cost: bytes to be moved to make it again, its own by default.
        """
        kept = self._kept.get(key)
        if kept is not None:
            self.hits += 1
            kept.asked, kept.used = kept.asked + 1, self._requests
            return kept.array
        self.misses += 1
        array = make()  # which may ask for others
        new = Kept(array, size, size if cost is None else cost, 1, self._requests)
        if self._make_room(new):
            self._kept[key] = new
            self.bytes += size
        return array

    def forget(self, key: Hashable) -> None:
        """Give up an array: nobody will ask for it again."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.bytes

    @property
    def _requests(self) -> int:
        return self.hits + self.misses

    def _make_room(self, new: Kept) -> bool:
        """Give up what is worth least until the new one fits; False: it is not worth that."""
        if new.bytes > self.limit:
            return False
        going, room = [], self.limit - self.bytes
        for key, kept in sorted(self._kept.items(), key=lambda item: self._worth(item[1])):
            if room >= new.bytes:
                break
            if not displaces(self._policy, self._worth(new), self._worth(kept)):
                return False
            going.append(key)
            room += kept.bytes
        for key in going:
            self.forget(key)
        return True

    def _worth(self, kept: Kept) -> float:
        rate = kept.asked / max(self._requests, 1)
        worth: float = POLICIES[self._policy](Held(kept.bytes, kept.cost, rate, kept.used))
        return worth

"""How often each version was wanted, counted by all processes in one small file that they map.

Eight-byte cells: what the head says, then the state of the forecast, then a record per version.
They are changed under a lock that the kernel takes from the dead; where it is not to be had at
once, counts wait in their process. So do requests that follow each other closely: they are settled
together. One that is killed in between leaves a wrong count at most.

    cell 0    bytes of pages in the folder, at most
    cell 1    when they were added up, in seconds
    cell 2    how many times processes were asked to let go of what they do not need
    cell 3    reserved
    forecast  float64, see eviction.py
    records   each: the version's hash (32 bytes), hits, misses, evictions
"""

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pageformer.udfs.page_cache.eviction import HEAD, SLOT, Forecast
from pageformer.udfs.page_cache.private_folder import PrivateFolder

NAME = "usage.1"  # 1: the version of this layout
VERSIONS = 256
BYTES, ADDED_UP, ASKED = range(3)
FORECAST = 4
RECORDS = FORECAST + HEAD + SLOT * VERSIONS
RECORD = 4 + 3
SIZE = 8 * (RECORDS + RECORD * VERSIONS)
LOCK = 1 << 60  # beyond the locks of pages
NOBODY = bytes(32)


class Standing(NamedTuple):
    """Say how much a version is wanted: its share of requests, and the last of them."""

    rate: float = 0
    used: float = 0


class Counts(NamedTuple):
    """Hold what was counted for a version, in pages."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class Usage:
    """Count for all processes that share a folder.

    together: requests that follow each other within so many seconds are settled together.
    """

    def __init__(self, folder: PrivateFolder, together: float) -> None:
        self._folder = folder
        self._together = together
        self._seen = -1  # which folder the memory belongs to
        self._memory: mmap.mmap | None = None
        self._waiting: list[tuple[bytes, bool, Counts]] = []
        self._slots: dict[bytes, int] = {}
        self._settled_at = 0.0

    def count(self, version: bytes, counts: Counts, request: bool = False) -> None:
        """Count what became of a version's pages, and the request for them."""
        self._waiting.append((version, request, counts))
        now = time.monotonic()
        if not request or now > self._settled_at + self._together:
            self._settled_at = now
            self._settle_waiting()

    def forget(self, version: bytes) -> None:
        """Forget a version that is gone: nobody is expected to want its pages."""
        with self._locked() as locked:
            if locked and (slot := self._find(version)) is not None:
                self._clear(slot)

    def standings(self) -> dict[bytes, Standing]:
        """Return how much each version is wanted."""
        if not self._folder.has(NAME):  # nobody has counted yet
            return {}
        self._settle_waiting()
        forecast, records = self._forecast, bytes(self._cells[RECORDS:])
        versions = (records[start : start + 32] for start in range(0, len(records), 8 * RECORD))
        return {
            version: Standing(forecast.rate(slot), forecast.used(slot))
            for slot, version in enumerate(versions)
            if version != NOBODY
        }

    def counts(self, version: bytes) -> Counts:
        """Return what was counted for a version."""
        self._settle_waiting()
        slot = self._find(version)
        return Counts() if slot is None else Counts(*self._cells[self._record(slot)][4:])

    def read(self, cell: int) -> int:
        """Return a number of the head."""
        self._map()
        return self._cells[cell]

    def write(self, cell: int, value: int) -> None:
        """Set a number of the head; the caller sees to it that nobody else does."""
        self._map()
        self._cells[cell] = value

    # -- the file ---------------------------------------------------------------------------------

    def _map(self) -> None:
        """Map the file that all processes see now: the folder may have been made anew."""
        if self._memory is not None and self._seen == self._folder.openings:
            return
        self._memory, self._shared = self._folder.shared_memory(NAME, SIZE)
        self._seen = self._folder.openings
        self._slots.clear()
        self._cells = memoryview(self._memory).cast("q")
        self._forecast = Forecast(memoryview(self._memory).cast("d")[FORECAST:RECORDS])

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        self._map()
        if not self._shared:
            yield True
            return
        with self._folder.lock(LOCK) as locked:
            yield locked

    def _settle_waiting(self) -> None:
        with self._locked() as locked:
            while locked and self._waiting:
                self._settle(*self._waiting.pop(0))

    def _settle(self, version: bytes, request: bool, counts: Counts) -> None:
        slot = self._find(version)
        if slot is None:
            slot = self._claim(version)
        if request:
            self._forecast.count(slot)
        first = self._record(slot).start + 4
        for cell, more in enumerate(counts, start=first):
            self._cells[cell] += more

    def _find(self, version: bytes) -> int | None:
        """Return the version's slot, where it was last time or anywhere."""
        known = self._slots.get(version)
        if known is not None and self._version(known) == version:
            return known
        for slot in range(VERSIONS):
            if self._version(slot) == version:
                self._slots[version] = slot
                return slot
        return None

    def _claim(self, version: bytes) -> int:
        """Give the version a free slot, or that of the version that is wanted least."""
        slot = self._find(NOBODY)
        if slot is None:
            slot = min(range(VERSIONS), key=self._forecast.rate)
            self._clear(slot)
        start = self._record(slot).start
        self._cells[start : start + 4] = memoryview(version).cast("q")
        return slot

    def _clear(self, slot: int) -> None:
        record = self._record(slot)
        self._cells[record] = memoryview(bytes(8 * RECORD)).cast("q")
        self._forecast.forget(slot)

    def _record(self, slot: int) -> slice:
        start = RECORDS + RECORD * slot
        return slice(start, start + RECORD)

    def _version(self, slot: int) -> bytes:
        start = RECORDS + RECORD * slot
        return bytes(self._cells[start : start + 4])

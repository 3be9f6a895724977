"""One piece of memory for the intermediate arrays of a pass, laid out by a plan: no allocation.

A pass is what lies between two moments at which no array is alive. The first pass of a kind is
recorded while its arrays come from the usual allocator; those after it are served from its plan,
as long as each array is no larger than the one that was recorded in its place. So the largest batch
plans for all. An array whose place is still in use, because this pass lets go of things later than
the recorded one, comes from the usual allocator: the plan is trusted for speed, never for safety.
"""

import weakref
from collections.abc import Callable
from typing import Any

from pageformer.gpu_backend.planner import Lifetime, Plan, plan

Allocate = Callable[[int], Any]  # bytes -> memory of the device
Tape = list[list[int]]  # of each array, in order: bytes, first and last moment


class Lease:
    """Stand for an array that was given out: its memory is free when this is gone."""

    __slots__ = ("__weakref__",)


class Arena:
    """Give out memory by a plan that is made from the passes themselves.

    allocate: returns a piece of memory of so many bytes. view: returns bytes `[start, stop)` of a
    piece as an array that keeps the lease alive, as does every view of it.
    """

    def __init__(self, allocate: Allocate, view: Callable[[Any, int, int, Lease], Any]) -> None:
        self._allocate = allocate
        self._view = view
        self._recorded: Tape = []
        self._plan = Plan((), 0, 0)
        self._memory: Any = None
        self._live: dict[int, tuple[int, int]] = {}  # by number in this pass: its place, if planned
        self._tape: Tape = []  # of this pass
        self._now = 0
        self._as_planned = True
        self.allocations = 0
        self.bytes = 0

    @property
    def plan(self) -> Plan:
        """Return the plan: its footprint is what a pass takes."""
        return self._plan

    def take(self, size: int) -> Any:
        """Return `size` bytes as an array, free again when nobody has it or a view of it."""
        if not self._live:
            self._begin()
        number, lease = len(self._tape), Lease()
        self._now += 1
        self._tape.append([size, self._now, self._now])
        weakref.finalize(lease, self._returned, self._tape, number)
        place = self._place(number, size)
        self._live[number] = place or (0, 0)
        if place is not None:
            return self._view(self._memory, *place, lease)
        self._as_planned = False
        self.allocations += 1
        return self._view(self._allocate(size), 0, size, lease)

    def _place(self, number: int, size: int) -> tuple[int, int] | None:
        """Return where the plan puts the next array; None: nowhere large enough and free."""
        if number >= len(self._recorded) or size > self._recorded[number][0]:
            return None
        start = self._plan.offsets[number]
        stop = start + size
        if any(start < end and begin < stop for begin, end in self._live.values()):
            return None
        return start, stop

    def _returned(self, tape: list[list[int]], number: int) -> None:
        if tape is self._tape:
            self._now += 1
            tape[number][2] = self._now
            del self._live[number]

    def _begin(self) -> None:
        """Begin a pass; plan from the last one, where that was not as planned."""
        if not self._as_planned:
            self._recorded = merged(self._recorded, self._tape)
            self._plan = plan([Lifetime(*entry) for entry in self._recorded])
            if self._plan.footprint > self.bytes:
                self._memory = None  # freed before its successor is asked for
                self._memory = self._allocate(self._plan.footprint)
                self.bytes = self._plan.footprint
                self.allocations += 1
        self._tape, self._now, self._as_planned = [], 0, True


def merged(recorded: Tape, tape: Tape) -> Tape:
    """Return what serves a pass like either; a pass of other steps takes the old one's place."""
    if len(recorded) != len(tape):
        return tape
    return [
        [max(old[0], new[0]), min(old[1], new[1]), max(old[2], new[2])]
        for old, new in zip(recorded, tape, strict=True)
    ]

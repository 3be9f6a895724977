"""The plan of intermediate arrays: what lives at once never overlaps, steady passes ask nothing."""

from itertools import combinations
from typing import Any

import numpy as np
from emulated_device import leased
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.gpu_backend.arena import Arena
from pageformer.gpu_backend.planner import ALIGNMENT, Lifetime, aligned, plan

lifetimes = st.lists(
    st.builds(
        lambda size, first, length: Lifetime(size, first, first + length),
        st.integers(1, 10_000),
        st.integers(0, 30),
        st.integers(0, 12),
    ),
    max_size=25,
)


@given(lifetimes)
@settings(deadline=None)
def test_no_two_arrays_that_live_at_once_overlap(arrays: list[Lifetime]) -> None:
    planned = plan(arrays)
    for i, j in combinations(range(len(arrays)), 2):
        if arrays[i].meets(arrays[j]):
            a, b = planned.offsets[i], planned.offsets[j]
            assert a + arrays[i].bytes <= b or b + arrays[j].bytes <= a
    assert all(offset % ALIGNMENT == 0 for offset in planned.offsets)


@given(lifetimes)
@settings(deadline=None)
def test_a_plan_takes_at_least_what_lives_at_once_and_at_most_everything(
    arrays: list[Lifetime],
) -> None:
    planned = plan(arrays)
    assert planned.bound <= planned.footprint <= sum(aligned(array.bytes) for array in arrays)


def test_an_array_takes_the_smallest_gap_that_holds_it() -> None:
    kept = [Lifetime(size * ALIGNMENT, 0, 9) for size in (8, 7, 6)]
    gone = [Lifetime(4 * ALIGNMENT, 0, 4), Lifetime(2 * ALIGNMENT, 0, 4)]
    late = Lifetime(2 * ALIGNMENT, 5, 9)
    planned = plan([*kept, *gone, late])
    assert planned.footprint == planned.bound == 27 * ALIGNMENT


def test_a_layer_of_bert_is_planned_within_a_tenth_of_the_bound() -> None:
    planned = plan(layers(12, 1024, 768, 3072))
    assert planned.footprint <= 1.1 * planned.bound


def layers(count: int, tokens: int, hidden: int, wide: int) -> list[Lifetime]:
    """The arrays of a post-norm encoder in float32, in the order in which they are made."""
    arrays, x = [Lifetime(4 * tokens * hidden, 0, 5)], 4 * tokens * hidden
    for now in range(1, 1 + 10 * count, 10):
        arrays += [Lifetime(x, now + i, now + 3) for i in range(3)]
        arrays += [Lifetime(x, now + 3, now + 4), Lifetime(x, now + 4, now + 7)]
        arrays += [Lifetime(4 * tokens * wide, now + 5, now + 6), Lifetime(x, now + 6, now + 14)]
    return arrays


# -- the arena ------------------------------------------------------------------------------------


class Counted:
    """An arena over NumPy's memory, and what it allocated."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.arena = Arena(self.allocate, leased)

    def allocate(self, size: int) -> Any:
        self.sizes.append(size)
        return np.zeros(size, np.uint8)

    def run(self, tokens: int, hold: bool = False) -> None:
        """Compute as a pass does: x, then twice h from x and x from h, checking what is kept."""
        x = self.arena.take(tokens * 100)
        x[...] = 1
        older = []
        for number in (2, 3):
            h = self.arena.take(tokens * 400)
            h[...] = number
            part = h[: tokens * 100]
            del h
            older += [x] if hold else []
            x = self.arena.take(tokens * 100)
            x[...] = part
            del part
            assert (x.held == number).all()
        for number, held in enumerate(older, 1):
            assert (held.held == number).all()


def test_serving_that_is_steady_allocates_nothing() -> None:
    counted = Counted()
    counted.run(64)
    counted.run(64)
    before = len(counted.sizes)
    for tokens in (64, 3, 50, 64):
        counted.run(tokens)
    assert len(counted.sizes) == before


def test_a_larger_batch_is_planned_for_once() -> None:
    counted = Counted()
    for tokens in (8, 8, 64, 64, 8):
        counted.run(tokens)
    before = len(counted.sizes)
    for tokens in (8, 64, 20):
        counted.run(tokens)
    assert len(counted.sizes) == before
    assert counted.arena.bytes == counted.arena.plan.footprint == counted.sizes[-1]


def test_what_is_held_longer_than_planned_is_not_overwritten() -> None:
    counted = Counted()
    counted.run(16)
    counted.run(16, hold=True)
    counted.run(16, hold=True)
    counted.run(16)


def test_a_view_keeps_its_memory() -> None:
    counted = Counted()
    for _ in range(3):
        view = counted.arena.take(1000)[500:]
        view[...] = 7
        other = counted.arena.take(1000)
        other[...] = 8
        assert (view.held == 7).all()
        del view, other

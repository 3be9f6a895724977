"""The accuracy bound decides: what breaks it is undone, what does not is shared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageformer.dedup.approximate import accept, in_paper_order
from pageformer.dedup.widths import Block, bisect
from pageformer.udfs.delta import EIGHT_BITS, FOUR_BITS


@given(st.integers(1, 300), st.data())
def test_the_one_block_that_breaks_accuracy_is_kept_and_no_other(
    count: int, data: st.DataObject
) -> None:
    bad = data.draw(st.integers(0, count - 1))
    accepted = accept(range(count), lambda chosen: bad not in chosen)
    assert sorted([*accepted, bad]) == list(range(count))


@given(st.lists(st.floats(0, 1), max_size=50), st.floats(0, 5))
def test_the_bound_holds_for_what_is_accepted(harm: list[float], bound: float) -> None:
    accepted = accept(range(len(harm)), lambda chosen: sum(harm[i] for i in chosen) <= bound)
    assert sum(harm[i] for i in accepted) <= bound


def test_nothing_is_accepted_where_everything_harms() -> None:
    checked: list[int] = []

    def holds(chosen: object) -> bool:
        checked.append(1)
        return False

    assert accept(range(1000), holds) == []
    assert len(checked) == 60


def test_nothing_to_replace_is_not_evaluated() -> None:
    assert accept([], lambda chosen: pytest.fail("evaluated")) == []


def test_the_order_is_largest_tensors_then_smallest_magnitudes() -> None:
    sizes, magnitudes = {"a": 1, "b": 9, "c": 9}, {"a": 0.0, "b": 2.0, "c": 1.0}
    assert in_paper_order("abc", sizes.__getitem__, magnitudes.__getitem__) == ["c", "b", "a"]


def a_block(weight: float = 1.0) -> Block:
    random = np.random.default_rng(0)
    base = random.normal(0, 1, (32, 32)).astype(np.float32)
    block = base + random.normal(0, 0.01, (32, 32)).astype(np.float32)
    return Block(block, base, np.full(32, weight, np.float32), 4096)


def test_cheap_bytes_buy_width_and_dear_ones_the_base() -> None:
    widths = []
    for rate in (1.0, 1e-5, 1e-7, 1e-8, 1e-12):
        choice = a_block().choose(rate)
        widths.append(choice.delta.coding if choice.delta else -1 if choice.whole else 0)
    assert widths[0] == 0
    assert widths[1:3] == sorted(widths[1:3])
    assert widths[3] in (FOUR_BITS, EIGHT_BITS)
    assert widths[-1] == -1


def test_rows_that_do_not_matter_cost_nothing() -> None:
    choice = a_block(weight=0).choose(1e-9)
    assert choice.delta is None
    assert not choice.whole


def test_the_rate_is_the_highest_that_holds() -> None:
    def choose(rate: float) -> float:
        return rate

    rate = bisect(choose, lambda chosen: chosen < 3e-6)
    assert rate is not None
    assert 2e-6 < rate < 3e-6
    assert bisect(choose, lambda chosen: False) is None
    assert bisect(choose, lambda chosen: True) == 1e-3

"""Arrays on the device under a limit of bytes: copied once, given up by what they are worth."""

from typing import Any

import numpy as np
import pytest
from emulated_device import emulated
from hypothesis import given
from hypothesis import strategies as st
from separate_memory import DeviceArray

from pageformer.gpu_backend.buffer_pool import BufferPool
from pageformer.udfs.blocks import BlockMatrix


class Made:
    """Make arrays, and remember which were made."""

    def __init__(self, pool: BufferPool) -> None:
        self.pool = pool
        self.names: list[str] = []

    def get(self, name: str, size: int = 10) -> Any:
        def make() -> str:
            self.names.append(name)
            return name

        return self.pool.get(name, size, make)


def test_what_is_held_is_made_once() -> None:
    made = Made(BufferPool(30))
    for name in "abcabc":
        assert made.get(name) == name
    assert made.names == ["a", "b", "c"]
    assert (made.pool.hits, made.pool.misses, made.pool.bytes) == (3, 3, 30)


def test_the_least_recently_used_goes_first_by_recency() -> None:
    made = Made(BufferPool(20, "lru"))
    for name in "abaca":
        made.get(name)
    assert made.names == ["a", "b", "c"]


def test_a_scan_does_not_replace_what_is_asked_for_more_often() -> None:
    made = Made(BufferPool(20))
    for name in "aabbxyzab":
        made.get(name)
    assert made.names == ["a", "b", "x", "y", "z"]


def test_what_is_larger_than_the_limit_is_made_and_not_kept() -> None:
    made = Made(BufferPool(20))
    assert made.get("large", 21) == "large"
    assert made.pool.bytes == 0


@pytest.mark.parametrize("policy", ["lru", "mru", "sharing"])
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60))
def test_the_limit_holds_whatever_is_asked(policy: str, asked: list[tuple[str, bool]]) -> None:
    made = Made(BufferPool(25, policy))
    for name, forgotten in asked:
        assert made.get(name, 3 * (ord(name) - 96)) == name
        assert made.pool.bytes <= 25
        if forgotten:
            made.pool.forget(name)
    for name in "abcdef":
        made.pool.forget(name)
    assert made.pool.bytes == 0


# -- pages ----------------------------------------------------------------------------------------


def page(number: float) -> memoryview:
    return memoryview(np.full(2 * 32 * 32, number, np.float32).tobytes())


def test_a_page_that_two_versions_share_is_copied_once() -> None:
    operators = emulated()
    first, second = (operators.page_array(page(3), b"one page") for _ in range(2))
    assert operators.kept.misses == 0
    tile = first[1024:2048].reshape(32, 32)
    assert isinstance(tile[:5, :7], DeviceArray)
    assert operators.to_host(second[0:10]).tolist() == [3] * 10
    assert (operators.kept.misses, operators.kept.bytes) == (1, 8192)


def matrix(operators: Any) -> BlockMatrix:
    array = operators.page_array(page(2), b"page")
    tiles = tuple(array[i * 1024 : (i + 1) * 1024].reshape(32, 32) for i in range(2))
    return BlockMatrix((tiles,), 30, 60, 32)


def test_a_matrix_is_gathered_once_and_goes_with_its_blocks() -> None:
    operators = emulated()
    w, x = matrix(operators), operators.array(np.ones((4, 30), np.float32))
    for _ in range(3):
        assert (operators.to_host(operators.linear(x, w)) == 60).all()
    assert operators.kept.bytes == 8192 + 30 * 60 * 4
    del w
    assert operators.kept.bytes == 8192


def test_what_does_not_fit_is_computed_from_pages_and_right() -> None:
    operators = emulated(limit=8192)
    x = operators.array(np.ones((4, 30), np.float32))
    w = matrix(operators)
    for _ in range(2):
        assert (operators.to_host(operators.linear(x, w)) == 60).all()
        assert operators.kept.bytes <= 8192

"""Memory for the arrays of a pass: lent again, but never while anybody sees it."""

import numpy as np
import pytest

pytest.importorskip("pageformer.cpu_backend._kernels", reason="no compiler here")
from pageformer.cpu_backend.operators import CpuOperators
from pageformer.cpu_backend.rooms import Rooms
from pageformer.udfs.blocks import BlockMatrix


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def test_what_nobody_uses_any_more_is_lent_again():
    rooms = Rooms()
    kept, first = rooms.empty((2, 2)), rooms.empty((3, 4))
    place = address(first)
    del first
    assert address(rooms.empty((4, 3))) == place
    assert kept.shape == (2, 2)


def test_what_a_view_still_shows_is_not_lent():
    rooms = Rooms()
    first = rooms.empty((3, 4))
    view = first[1:].T
    view[:] = 7
    del first
    others = [rooms.empty((3, 4)) for _ in range(3)]
    for other in others:
        other[:] = 0
    assert (view == 7).all()


def test_nothing_is_kept_behind_a_pass():
    rooms = Rooms()
    x = rooms.empty((2, 2))
    for width in range(1, 100):
        y = rooms.empty((2, width))
    assert len(rooms._free) <= 17, "nor without bound in a pass"
    del x, y
    assert not rooms._lent
    assert not rooms._free


def test_rows_lie_in_lines_of_the_cache_and_apart():
    rooms = Rooms()
    assert all(address(rooms.empty((5, n))) % 64 == 0 for n in (1, 7, 768))
    assert rooms.rows(4, 3072).strides == (4 * (3072 + 32), 4)
    assert rooms.rows(4, 768).strides == (4 * 768, 4)


@pytest.mark.parametrize("width", [1024, 96])
def test_products_read_rows_wherever_they_lie(width):
    draw, operators = np.random.default_rng(width), CpuOperators()
    weight = BlockMatrix.from_array(draw.standard_normal((width, 40), np.float32), 32)
    wide = draw.standard_normal((9, 2 * width), np.float32)
    left = wide[:, :width]
    for x in (left, wide[:, ::2], wide[::-1, width:], left[3:4], left[:0]):
        found = operators.linear(x, weight, activation="relu")
        expected = operators.linear(np.ascontiguousarray(x), weight, activation="relu")
        np.testing.assert_array_equal(found, expected)


def test_a_product_with_an_activation_may_have_a_crowding_width():
    draw, operators = np.random.default_rng(0), CpuOperators()
    up, down = (draw.standard_normal(s).astype(np.float32) / 32 for s in ((64, 1024), (1024, 64)))
    x = draw.standard_normal((5, 64)).astype(np.float32)
    inner = operators.linear(x, BlockMatrix.from_array(up, 128), activation="relu")
    found = operators.linear(inner, BlockMatrix.from_array(down, 128))
    np.testing.assert_allclose(found, np.maximum(x @ up, 0) @ down, atol=1e-5)

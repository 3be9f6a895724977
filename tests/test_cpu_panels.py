"""Products by panels of weights, in bfloat16 and int8, against NumPy, over random shapes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.udfs.blocks import BlockMatrix

kernels = pytest.importorskip("pageformer.cpu_backend._kernels", reason="no C compiler was there")

Array = np.ndarray[Any, Any]
COLUMNS = 32  # of a panel
WIDTHS = st.integers(1, 5).map(lambda count: 32 * count)
over_random_shapes = settings(deadline=None, max_examples=40)
shapes = st.tuples(st.integers(0, 70), WIDTHS, WIDTHS)  # rows; their length; columns
numbers = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 1.0, 30.0]))
by_every_variant = pytest.mark.parametrize("variant", kernels.variants())


def drawn(numbers: tuple[int, float], *shape: int) -> Array:
    random = np.random.default_rng([numbers[0], *shape])
    return (random.standard_normal(shape) * numbers[1]).astype(np.float32)


def panels_of(weight: Array, form: int) -> bytes:
    cut = BlockMatrix.from_array(weight, 64)
    blocks = [block for row in cut.grid for block in row]
    made: bytes = kernels.panels(kernels.Matrix(blocks, *weight.shape, 64), form)
    return made


def product(variant: str, form: int, x: Array, weight: Array, bias: Array) -> Array:
    rows, (depth, cols) = len(x), weight.shape
    y = np.full((rows, cols), np.nan, np.float32)
    made = panels_of(weight, form)
    kernels.panel_product(variant, form, x, rows, depth, cols, made, bias, y)
    return y


def narrowed(x: Array) -> Array:
    """Round to bfloat16, to even."""
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def weights_in(made: bytes, depth: int) -> Array:
    """Read int8 panels: lines of 4 rows by 32 columns, then the columns' steps and sums."""
    form = np.dtype([
        ("lines", "i1", (depth // 4, COLUMNS, 4)), ("step", "f4", COLUMNS), ("sum", "i4", COLUMNS),
    ])  # fmt: skip
    found = []
    for panel in np.frombuffer(made, form):
        whole = panel["lines"].transpose(0, 2, 1).reshape(depth, COLUMNS).astype(np.int64)
        assert (whole.sum(0) == panel["sum"]).all()
        found.append(whole * panel["step"].astype(np.float64))
    return np.concatenate(found, axis=1)


def in_bytes(x: Array) -> Array:
    """Round each row to 256 steps that take it in, zero among them."""
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    step = np.where(high > low, (high - low) / 255, 1)[:, None]
    zero = np.round(-low[:, None] / step)
    return (np.clip(np.round(x / step + zero), 0, 255) - zero) * step


@by_every_variant
@over_random_shapes
@given(shape=shapes, numbers=numbers)
def test_products_of_bfloat16_are_those_of_rounded_numbers(
    variant: str, shape: tuple[int, int, int], numbers: tuple[int, float]
) -> None:
    rows, depth, cols = shape
    x, weight, bias = drawn(numbers, rows, depth), drawn(numbers, depth, cols), drawn(numbers, cols)
    got = product(variant, kernels.BFLOAT16, x, weight, bias)
    expected = narrowed(x) @ narrowed(weight) + bias
    near = 1e-6 * (np.abs(narrowed(x)) @ np.abs(narrowed(weight)) + np.abs(bias))
    assert (np.abs(got - expected) <= near).all()


@by_every_variant
@over_random_shapes
@given(shape=shapes, numbers=numbers)
def test_products_of_bytes_are_exact_sums_of_rounded_numbers(
    variant: str, shape: tuple[int, int, int], numbers: tuple[int, float]
) -> None:
    rows, depth, cols = shape
    x, weight, bias = drawn(numbers, rows, depth), drawn(numbers, depth, cols), drawn(numbers, cols)
    got = product(variant, kernels.INT8, x, weight, bias)
    if not rows:
        return
    read = weights_in(panels_of(weight, kernels.INT8), depth)
    expected = in_bytes(narrowed(x)) @ read + bias
    # Ties may be rounded either way, since steps are divided in float32: a step of a few elements.
    step = (np.ptp(np.c_[narrowed(x), np.zeros(rows)], axis=1) / 255)[:, None]
    near = 1e-5 * (np.abs(narrowed(x)) @ np.abs(read) + np.abs(bias)) + 4 * step * np.abs(read).max(
        0
    )
    assert (np.abs(got - expected) <= near).all()
    portable = product(kernels.variants()[-1], kernels.INT8, x, weight, bias)
    assert (np.abs(got - portable) <= near).all()


@by_every_variant
@pytest.mark.parametrize("form", [kernels.BFLOAT16, kernels.INT8])
def test_a_row_of_zeros_gives_the_bias(variant: str, form: int) -> None:
    weight, bias = drawn((1, 1.0), 64, 96), drawn((2, 1.0), 96)
    got = product(variant, form, np.zeros((3, 64), np.float32), weight, bias)
    assert (got == bias).all()


def test_sizes_that_do_not_fit_are_refused() -> None:
    y = np.empty((1, 32), np.float32)
    with pytest.raises(ValueError, match="sizes do not fit"):
        kernels.panel_product(kernels.variants()[0], kernels.INT8, y, 1, 32, 32, b"", y[0], y)

"""Operators over blocks: products, and what is done element by element."""

from itertools import islice

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.udfs import spi
    from pageformer.udfs.blocks import Array, array_to_block
    from pageformer.udfs.delta import DeltaPage, apply, unpack_record
    from pageformer.udfs.operators import Operators
    from pageformer.udfs.relations.block_values import (
        array_of,
        mismatch,
        one_per_column,
        over_blocks,
        same_shape,
    )

OPERATORS = Operators()


@over_blocks
def matmul(a: Array, b: Array) -> Array:
    """Multiply two blocks.  # [n, k], [k, m] -> [n, m]"""
    if a.shape[1] != b.shape[0]:
        raise mismatch("matmul", a, b)
    return a @ b


@over_blocks
def transpose(x: Array) -> Array:
    """Swap rows and columns.  # [n, m] -> [m, n]"""
    return x.T


@over_blocks
def add(a: Array, b: Array) -> Array:
    """Add two blocks of one shape.  # 2 x [n, m] -> [n, m]"""
    same_shape("add", a, b)
    return a + b


@over_blocks
def multiply(a: Array, b: Array) -> Array:
    """Multiply two blocks element by element.  # 2 x [n, m] -> [n, m]"""
    same_shape("multiply", a, b)
    return a * b


@over_blocks
def add_bias(x: Array, bias: Array) -> Array:
    """Add one row to every row.  # [n, m], [1, m] -> [n, m]"""
    one_per_column("add_bias", x, bias)
    return x + bias


@over_blocks
def scale(x: Array, factor: float) -> Array:
    """Multiply every element by a number.  # [n, m] -> [n, m]"""
    return x * np.float32(factor)


@over_blocks
def mask(x: Array, visible: Array) -> Array:
    """Put minus infinity where the mask has a zero.  # 2 x [n, m] -> [n, m]"""
    same_shape("mask", x, visible)
    return np.where(visible == 0, np.float32(-np.inf), x)


@over_blocks
def activate(x: Array, activation: str) -> Array:
    """Apply an activation by name.  # [n, m] -> [n, m]"""
    return OPERATORS.activate(x.astype(np.float32, copy=True), activation)


@spi.boundary
def add_delta(page: bytes, slot: int, base: bytes) -> bytes:
    """Add the difference in a slot of a page to its base, a block value; in float32."""
    differences = DeltaPage(page)
    record = next(islice(differences.records(), slot, None))
    delta = unpack_record(record, differences.rows, differences.cols)
    return array_to_block(apply(array_of(base), delta))


@spi.boundary
def distance(a: bytes, b: bytes) -> float:
    """Return how far apart two blocks are, in parts of the first one's length."""
    first, second = array_of(a), array_of(b)
    length = max(float(np.linalg.norm(first)), float(np.finfo(np.float32).tiny))
    return float(np.linalg.norm(first - second)) / length

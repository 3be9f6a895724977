"""Operators as UDFs: the same NumPy operators, over blocks that are values of SQL."""

from collections.abc import Callable
from functools import wraps
from itertools import islice

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.errors import InvalidInput
    from pageformer.udfs import spi
    from pageformer.udfs.blocks import (
        ELEMENTS,
        Array,
        array_to_block,
        block_to_array,
        pack_block,
    )
    from pageformer.udfs.delta import DeltaPage, apply, unpack_record
    from pageformer.udfs.edits import Norm
    from pageformer.udfs.operators import Operators

OPERATORS = Operators()


def over_blocks(operator: Callable[..., Array]) -> Callable[..., bytes]:
    """Make an operator over arrays one over block values; other arguments pass as they are."""

    @spi.boundary
    @wraps(operator)
    def applied(*arguments: object) -> bytes:
        return array_to_block(operator(*map(unwrap, arguments)))

    return applied


def unwrap(argument: object) -> object:
    """Read an argument as an array when it is a block value."""
    if not isinstance(argument, bytes):
        return argument
    try:
        return block_to_array(argument).copy()
    except ValueError as error:
        raise InvalidInput(
            f"not a block: {error}", hint="make one with pageformer_op.from_array(real[])"
        ) from error


@over_blocks
def matmul(a: Array, b: Array) -> Array:
    """Multiply two blocks.  # [n, k], [k, m] -> [n, m]"""
    if a.shape[1] != b.shape[0]:
        raise mismatch("matmul", a, b)
    return a @ b


@over_blocks
def add(a: Array, b: Array) -> Array:
    """Add two blocks of one shape.  # 2 x [n, m] -> [n, m]"""
    if a.shape != b.shape:
        raise mismatch("add", a, b)
    return a + b


@over_blocks
def gelu(x: Array) -> Array:
    """Apply the exact GELU.  # [n, m] -> [n, m]"""
    return OPERATORS.activate(x, "gelu")


@over_blocks
def softmax(x: Array) -> Array:
    """Normalise the exponentials of each row.  # [n, m] -> [n, m]"""
    return OPERATORS.softmax(x)


@over_blocks
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Normalise each row; weight and bias are blocks of one row.  # [n, m] -> [n, m]"""
    if weight.shape != (1, x.shape[1]) or bias.shape != weight.shape:
        raise mismatch("layer_norm", x, weight)
    return OPERATORS.layer_norm(x, Norm(weight[0], bias[0], eps))


@over_blocks
def from_array(elements: list[list[float]]) -> Array:
    """Make a block of a two-dimensional array."""
    array = np.array(elements, np.float32)
    if array.ndim != 2:
        raise InvalidInput(
            f"a block has two dimensions, this array {array.ndim}", hint="write array[[1, 2, 3]]"
        )
    return array


@spi.boundary
def to_array(block: bytes) -> list[list[float]]:
    """Return the elements of a block."""
    array = unwrap(block)
    return array.tolist() if isinstance(array, np.ndarray) else []


@spi.boundary
def block(form: str, rows: int, cols: int, data: bytes) -> bytes:
    """Put the header of a block in front of its elements."""
    if form not in ELEMENTS:
        raise InvalidInput(f"{form} is not a format", hint=f"formats: {', '.join(ELEMENTS)}")
    return pack_block(form, rows, cols, data)


@spi.boundary
def add_delta(page: bytes, slot: int, base: bytes) -> bytes:
    """Add the difference in a slot of a page to its base, a block value; in float32."""
    differences = DeltaPage(page)
    record = next(islice(differences.records(), slot, None))
    delta = unpack_record(record, differences.rows, differences.cols)
    return array_to_block(apply(block_to_array(base), delta))


@spi.boundary
def distance(a: bytes, b: bytes) -> float:
    """Return how far apart two blocks are, in parts of the first one's length."""
    first, second = block_to_array(a), block_to_array(b)
    length = max(float(np.linalg.norm(first)), float(np.finfo(np.float32).tiny))
    return float(np.linalg.norm(first - second)) / length


def mismatch(operator: str, a: Array, b: Array) -> InvalidInput:
    """Describe two blocks whose shapes do not go together."""
    return InvalidInput(f"{operator} of blocks {list(a.shape)} and {list(b.shape)}: shapes differ")

"""Functions over arrays as functions over block values of SQL, with errors told as PostgreSQL's."""

from collections.abc import Callable
from functools import wraps

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.errors import InvalidInput
    from pageformer.udfs import spi
    from pageformer.udfs.block_value import read_block
    from pageformer.udfs.blocks import Array, array_to_block, widen


def over_blocks(operator: Callable[..., Array | None]) -> Callable[..., bytes | None]:
    """Make an operator over arrays one over block values; other arguments pass as they are.

    The arrays are views of the values: an operator must not write to them. What is not a number
    and what is infinite pass through, as IEEE 754 has it.
    """

    @spi.boundary
    @wraps(operator)
    def applied(*arguments: object) -> bytes | None:
        with np.errstate(all="ignore"):
            result = operator(*map(unwrap, arguments))
        return None if result is None else array_to_block(result)

    return applied


def unwrap(argument: object) -> object:
    """Read an argument as an array when it is a block value, or a list of arrays."""
    if isinstance(argument, bytes):
        return array_of(argument)
    if isinstance(argument, list):
        return [array_of(block) for block in argument]
    return argument


def array_of(block: bytes | None) -> Array:
    """Read a block value.

    Raises InvalidInput when the bytes are none.
    """
    form, rows, cols, data = read_block(block)
    return widen(data, form).reshape(rows, cols)


def same_shape(operator: str, a: Array, b: Array) -> None:
    """Raise InvalidInput unless two blocks have one shape."""
    if a.shape != b.shape:
        raise mismatch(operator, a, b)


def one_per_row(operator: str, x: Array, column: Array) -> None:
    """Raise InvalidInput unless a block has one element for each row of another."""
    if column.shape != (x.shape[0], 1):
        raise mismatch(operator, x, column)


def one_per_column(operator: str, x: Array, row: Array) -> None:
    """Raise InvalidInput unless a block has one element for each column of another."""
    if row.shape != (1, x.shape[1]):
        raise mismatch(operator, x, row)


def mismatch(operator: str, a: Array, b: Array) -> InvalidInput:
    """Describe two blocks whose shapes do not go together."""
    return InvalidInput(f"{operator} of blocks {list(a.shape)} and {list(b.shape)}: shapes differ")

"""Operators that make blocks, join them, take them apart and read them."""

from collections.abc import Iterator

from pageformer.udfs import threads

with threads.kept_out():
    import numpy as np

    from pageformer.errors import InvalidInput
    from pageformer.udfs import spi
    from pageformer.udfs.block_value import ELEMENTS, pack_block
    from pageformer.udfs.blocks import Array, array_to_block
    from pageformer.udfs.relations.block_values import array_of, mismatch, over_blocks

Rows = list[list[float]]


@spi.boundary
def from_array(elements: Rows) -> bytes:
    """Make a block of a two-dimensional array."""
    return array_to_block(with_dimensions(elements, 2))


@spi.boundary
def to_array(block: bytes) -> Rows:
    """Return the elements of a block."""
    elements: Rows = array_of(block).tolist()
    return elements


@spi.boundary
def from_tensor(elements: list[Rows]) -> list[tuple[int, bytes]]:
    """Return (sequence, block) of each matrix of a three-dimensional array, from 1."""
    matrices = with_dimensions(elements, 3)
    return [(i, array_to_block(matrix)) for i, matrix in enumerate(matrices, start=1)]


@spi.boundary
def to_tensor(blocks: list[bytes]) -> list[Rows]:
    """Return the elements of blocks as one three-dimensional array."""
    return [array_of(block).tolist() for block in blocks]


@spi.boundary
def to_vector(block: bytes) -> str:
    """Write a block of one row as pgvector reads it."""
    from pageformer.udfs.composed import vector_text

    array = array_of(block)
    if array.shape[0] != 1:
        raise InvalidInput(
            f"a block {list(array.shape)} is no vector", hint="take a row of it: slice(block, 1, 1)"
        )
    return vector_text(array[0])


@spi.boundary
def block(form: str, rows: int, cols: int, data: bytes) -> bytes:
    """Put the header of a block in front of its elements."""
    if form not in ELEMENTS:
        raise InvalidInput(f"{form} is not a format", hint=f"formats: {', '.join(ELEMENTS)}")
    return pack_block(form, rows, cols, data)


@over_blocks
def concat(blocks: list[Array]) -> Array | None:
    """Put blocks side by side.  # [n, m] ... -> [n, sum of m]"""
    for other in blocks[1:]:
        if other.shape[0] != blocks[0].shape[0]:
            raise mismatch("concat", blocks[0], other)
    return np.concatenate(blocks, axis=1) if blocks else None


@over_blocks
def stack(blocks: list[Array]) -> Array | None:
    """Put blocks one below the other.  # [n, m] ... -> [sum of n, m]"""
    for other in blocks[1:]:
        if other.shape[1] != blocks[0].shape[1]:
            raise mismatch("stack", blocks[0], other)
    return np.concatenate(blocks, axis=0) if blocks else None


@over_blocks
def run(blocks: list[Array], first: int, count: int) -> Array:
    """Cut a run of elements out of blocks laid end to end, counted from 1.  # -> [1, count]

    Raises InvalidInput where the blocks do not have so many elements.
    """
    elements = np.concatenate([x.ravel() for x in blocks]) if blocks else np.zeros(0, np.float32)
    part = elements[max(first - 1, 0) :][:count]
    if first < 1 or count < 1 or len(part) < count:
        raise InvalidInput(f"elements {first} + {count} are not among {elements.size}")
    return part[None, :]


@over_blocks
def slice(x: Array, first_row: int, rows: int, first_col: int, cols: int) -> Array:
    """Cut out so many rows and columns, counted from 1; fewer where the block ends.

    Raises InvalidInput where nothing would be left.
    """
    part = x[max(first_row - 1, 0) :, max(first_col - 1, 0) :][: max(rows, 0), : max(cols, 0)]
    if first_row < 1 or first_col < 1 or part.size == 0:
        raise InvalidInput(
            f"rows {first_row} + {rows} and columns {first_col} + {cols} are not in a block "
            f"{list(x.shape)}",
            hint="rows and columns are counted from 1",
        )
    return part


@spi.boundary
def tile(block: bytes, rows: int, cols: int) -> list[tuple[int, int, bytes]]:
    """Cut a block into (block_row, block_col, block), counted from 1; the last may be smaller."""
    if rows < 1 or cols < 1:
        raise InvalidInput(f"tiles of {rows} x {cols}", hint="give sizes of at least 1")
    return list(tiles(array_of(block), rows, cols))


def tiles(x: Array, rows: int, cols: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the tiles of an array, row by row."""
    for i, top in enumerate(range(0, x.shape[0], rows), start=1):
        for j, left in enumerate(range(0, x.shape[1], cols), start=1):
            yield i, j, array_to_block(x[top : top + rows, left : left + cols])


def with_dimensions(elements: object, dimensions: int) -> Array:
    """Read nested lists as an array of so many dimensions.

    Raises InvalidInput for another number of dimensions, or a null element.
    """
    array = np.array(elements, np.float64)
    if array.ndim != dimensions:
        asked = {2: "a block has two dimensions", 3: "a tensor has three dimensions"}[dimensions]
        example = {2: "array[[1, 2, 3]]", 3: "array[[[1, 2, 3]]]"}[dimensions]
        raise InvalidInput(f"{asked}, this array {array.ndim}", hint=f"write {example}")
    return array.astype(np.float32)

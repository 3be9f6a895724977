"""A weight matrix as what it is in storage: a grid of equal tiles, viewed where they lie.

Also the one place for a block's name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pageformer.udfs.block_value import Buffer, pack_block, unpack_block

Array = npt.NDArray[np.float32]


def block_hash(form: str, rows: int, cols: int, data: Buffer) -> bytes:
    """Name a block: sha256 of its format, shape and bytes, so that no two shapes share a name."""
    digest = hashlib.sha256(f"{form}:{rows}x{cols}:".encode())
    digest.update(data)
    return digest.digest()


@dataclass(frozen=True)
class BlockMatrix:
    """View a `[rows, cols]` matrix as `grid[i][j]`, tiles of `side` x `side`, zeros past the edge.

    `grid` holds arrays of the backend that computes on them; nothing here copies a weight.
    """

    grid: Sequence[Sequence[Any]]
    rows: int
    cols: int
    side: int

    def row_span(self, index: int) -> slice:
        """Return the matrix rows that block row `index` covers."""
        return slice(index * self.side, min((index + 1) * self.side, self.rows))

    def col_span(self, index: int) -> slice:
        """Return the matrix columns that block column `index` covers."""
        return slice(index * self.side, min((index + 1) * self.side, self.cols))

    @classmethod
    def from_array(cls, array: Array, side: int) -> "BlockMatrix":
        """Cut a `[rows, cols]` array into tiles, zero padded; for tests and small tools."""
        rows, cols = array.shape
        padded = np.zeros((-(-rows // side) * side, -(-cols // side) * side), np.float32)
        padded[:rows, :cols] = array
        grid = tuple(
            tuple(
                np.ascontiguousarray(padded[r : r + side, c : c + side])
                for c in range(0, padded.shape[1], side)
            )
            for r in range(0, padded.shape[0], side)
        )
        return cls(grid, rows, cols, side)


def widen(data: Buffer, form: str) -> npt.NDArray[np.float32]:
    """Read elements of format `form` as a flat float32 array."""
    if form == "f32":
        return np.frombuffer(data, "<f4")
    if form == "f16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def array_to_block(array: Array) -> bytes:
    """Write a 2-D float32 array as a block value."""
    rows, cols = array.shape
    return pack_block("f32", rows, cols, np.ascontiguousarray(array, "<f4").tobytes())


def block_to_array(value: bytes) -> Array:
    """Read a block value as a float32 array `[rows, cols]`.

    Raises ValueError when the bytes are not a block value.
    """
    form, rows, cols, data = unpack_block(value)
    return widen(data, form).reshape(rows, cols)

"""Cut tensors into blocks: square tiles, zero padded at the edges, of one side per version.

Large tensors stay where they are (mapped files); what is copied at a time is one block. All 1-D
tensors are laid end to end in one sheet, the bundle, so that a bias does not cost a block each. The
bundle's last block ends with its last row where padding would weigh much in a small version.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from pageformer.loader.safetensors_file import ELEMENTS, Array
from pageformer.udfs.blocks import widen

SIDES = (128, 64, 32, 256)  # the default first
BUNDLE = "bundle"

# What a block costs beside its elements: its names in a grid, in `block` and in `placement`, with
# the row headers and index entries of both tables.
BLOCK_OVERHEAD = 400

# Another side than the default is taken when it saves more than this part of the parameter bytes:
# versions with equal sides share blocks.
WORTHWHILE = 0.01

# The bundle's last block, on a page of its own then, is not filled up where zeros would be more
# than this part of the parameter bytes, and more than a page of PostgreSQL's.
MUCH = 0.05
PAGE_OF_DATABASE = 8192


@dataclass(frozen=True)
class Weight:
    """Hold one tensor as it is stored: `[in, out]`, `[rows, hidden]` or `[n]`, in its format."""

    array: Array
    form: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the stored shape."""
        return self.array.shape


@dataclass(frozen=True)
class Sheet:
    """Hold one 2-D tensor that is cut into blocks of one format."""

    name: str
    array: Array  # [rows, cols]
    form: str
    ends: bool = False  # the last row of blocks is as high as what is there, not padded

    def block_rows(self, row: int, side: int) -> int:
        """Return how high the blocks of block row `row` are."""
        return min(side, self.array.shape[0] - row * side) if self.ends else side

    def tile(self, row: int, col: int, side: int) -> memoryview:
        """Copy block (`row`, `col`) of the grid, with zeros past the edge."""
        return tile(self.array, row, col, side)[: self.block_bytes(row, side)]

    def block_bytes(self, row: int, side: int) -> int:
        """Return the bytes of a block of block row `row`."""
        return self.block_rows(row, side) * side * self.array.itemsize


def grid_shape(rows: int, cols: int, side: int) -> tuple[int, int]:
    """Count the block rows and block columns that cover a matrix."""
    return -(-rows // side), -(-cols // side)


def choose_side(weights: Mapping[str, Weight]) -> int:
    """Choose the block side: the default, unless another wastes clearly less."""
    costs = {side: _cost(weights, side) for side in SIDES}
    parameter_bytes = sum(weight.array.nbytes for weight in weights.values())
    best = min(SIDES, key=lambda side: costs[side])
    saved = costs[SIDES[0]] - costs[best]
    return best if saved > WORTHWHILE * parameter_bytes else SIDES[0]


def _cost(weights: Mapping[str, Weight], side: int) -> int:
    """Count the bytes of padding and of overhead with blocks of `side`."""
    vectors = [weight for weight in weights.values() if weight.array.ndim == 1]
    elements, width = sum(vector.array.size for vector in vectors), bundle_width(vectors)
    cost = _waste((-(-elements // side), side), elements, side, width)
    if ends_early(weights, side):
        cost += BLOCK_OVERHEAD - _padding(vectors, side)  # on a page of its own
    for weight in weights.values():
        if weight.array.ndim == 2:
            cost += _waste(weight.shape, weight.array.size, side, weight.array.itemsize)
    return cost


def _waste(shape: tuple[int, ...], elements: int, side: int, width: int) -> int:
    blocks = prod(grid_shape(shape[0], shape[1], side))
    return (blocks * side * side - elements) * width + blocks * BLOCK_OVERHEAD


def ends_early(weights: Mapping[str, Weight], side: int) -> bool:
    """Tell whether rows of zeros at the end of the bundle are worth leaving out."""
    vectors = [weight for weight in weights.values() if weight.array.ndim == 1]
    parameter_bytes = sum(weight.array.nbytes for weight in weights.values())
    return _padding(vectors, side) > max(PAGE_OF_DATABASE, MUCH * parameter_bytes)


def _padding(vectors: Collection[Weight], side: int) -> int:
    """Count the bytes of the rows of zeros that fill up the last block of the bundle."""
    rows = -(-sum(vector.array.size for vector in vectors) // side)
    return -rows % side * side * bundle_width(vectors)


def bundle_form(vectors: Iterable[Weight]) -> str:
    """Return the format that holds every vector: theirs, or float32 where they differ."""
    forms = {vector.form for vector in vectors}
    return forms.pop() if len(forms) == 1 else "f32"


def bundle_width(vectors: Iterable[Weight]) -> int:
    """Return the bytes of one element of the bundle."""
    return np.dtype(ELEMENTS[bundle_form(vectors)]).itemsize


def bundle_offsets(weights: Mapping[str, Weight]) -> dict[str, int]:
    """Place each 1-D tensor in the bundle, in name order, counted in elements."""
    offsets, offset = {}, 0
    for name in sorted(weights):
        if weights[name].array.ndim == 1:
            offsets[name] = offset
            offset += weights[name].array.size
    return offsets


def sheets(weights: Mapping[str, Weight], side: int) -> list[Sheet]:
    """Return what is cut: the 2-D tensors in name order, then the bundle."""
    large = [
        Sheet(name, weights[name].array, weights[name].form)
        for name in sorted(weights)
        if weights[name].array.ndim == 2
    ]
    vectors = [weights[name] for name in bundle_offsets(weights)]
    return [*large, _bundle(vectors, side, ends_early(weights, side))] if vectors else large


def _bundle(vectors: list[Weight], side: int, ends: bool) -> Sheet:
    form = bundle_form(vectors)
    flat = np.concatenate([_as_form(vector, form) for vector in vectors])
    padded = np.zeros(-(-flat.size // side) * side, ELEMENTS[form])
    padded[: flat.size] = flat
    return Sheet(BUNDLE, padded.reshape(-1, side), form, ends)


def _as_form(vector: Weight, form: str) -> Array:
    return vector.array if vector.form == form else widen(vector.array.tobytes(), vector.form)


def tile(array: Array, row: int, col: int, side: int) -> memoryview:
    """Copy block (`row`, `col`) of a sheet's grid: `side * side` elements, zeros past the edge."""
    part = array[row * side : (row + 1) * side, col * side : (col + 1) * side]
    if part.shape != (side, side):
        padded = np.zeros((side, side), array.dtype)
        padded[: part.shape[0], : part.shape[1]] = part
        part = padded
    return memoryview(part.tobytes())

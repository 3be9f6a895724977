"""How kernels are launched: which shapes each takes, its grid, its shared memory, its name.

Numbers alone: nothing here knows a device, so that all of it is tested without one.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

WARP = 32
ROWS_OF_WARP = 2  # that cuda/layer_norm.cu and cuda/softmax.cu reduce together
WARPS = 4  # of a block, at most
TILE = 32  # queries of a block of cuda/attention.cu
LANES = 4  # that share a query there
HEAD_WIDTHS = (32, 64, 128)  # that it is compiled for; others are filled up to the next
SHARED_BYTES = 48 * 1024  # that every device gives a block
ELEMENTS_OF_BLOCK = 256
MOST_BLOCKS = 4096  # of cuda/activation.cu, whose threads go on to further elements
FAR = 2**30  # no position is further away than this
# The order of cuda/activation.cu.
ACTIVATIONS = (None, "gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh")


class Launch(NamedTuple):
    """Say which kernel of which file runs, on what grid."""

    file: str
    kernel: str
    grid: tuple[int, int]
    threads: int
    shared: int = 0  # bytes


def layer_norm(rows: int, width: int, element: str) -> Launch | None:
    """Launch rows by twos, as many as their sums fit; None: not one warp's rows fit."""
    warps = min(WARPS, SHARED_BYTES // (4 * ROWS_OF_WARP * width))
    if not rows or not warps:
        return None
    blocks = -(-rows // (warps * ROWS_OF_WARP))
    shared = 4 * warps * ROWS_OF_WARP * width
    return Launch("layer_norm", f"layer_norm_{element}", (blocks, 1), warps * WARP, shared)


def softmax(rows: int, width: int, element: str) -> Launch | None:
    """Launch rows by twos; None: there are none, or they are empty."""
    if not rows or not width:
        return None
    blocks = -(-rows // (WARPS * ROWS_OF_WARP))
    return Launch("softmax", f"softmax_{element}", (blocks, 1), WARPS * WARP)


def activation(count: int, element: str) -> Launch | None:
    """Launch elements; None: there are none."""
    if not count:
        return None
    blocks = min(-(-count // ELEMENTS_OF_BLOCK), MOST_BLOCKS)
    return Launch("activation", f"activation_{element}", (blocks, 1), ELEMENTS_OF_BLOCK)


def attention(tiles: int, heads: int, width: int, element: str) -> Launch | None:
    """Launch tiles of queries for each head; None: heads are too wide, or nobody asks."""
    compiled = next((known for known in HEAD_WIDTHS if width <= known), None)
    if not tiles or not width or compiled is None:
        return None
    return Launch("attention", f"attention_{compiled}_{element}", (tiles, heads), TILE * LANES)


def tiles(offsets: Sequence[int]) -> list[tuple[int, int, int]]:
    """Cut sequences into tiles of queries: a sequence's row and length, and its first query.

    The longest sequences come first: what takes longest is not to begin last.
    """
    found = [
        (start, stop - start, first)
        for start, stop in pairwise(offsets)
        for first in range(0, stop - start, TILE)
    ]
    return sorted(found, key=lambda tile: -tile[1])

"""What a task changes at one site, as the kernels read it: in whole strips of columns."""

from typing import Any

import numpy as np

from pageformer.cpu_backend import _kernels as kernels
from pageformer.udfs.blocks import Array
from pageformer.udfs.tasks.edits import BottleneckEdits, EndEdits, LinearEdits, Norm

STRIP = 32  # columns; kernels/edits_objects.c counts with it
CODES = {None: 0, "gelu": 1, "gelu_tanh": 2, "relu": 3, "silu": 4}
STATES = {"product": 0, "added": 1, "normed": 2, "residual": 3}


def linear_edits(edits: LinearEdits, rows: int, cols: int) -> kernels.LinearEdits:
    """Make edits of a `[rows, cols]` map ready for the kernels; what fits lies where it lay."""
    down, up = edits.low_rank or (None, None)
    starts, indices, values = edits.sparse or (None, None, None)
    return kernels.LinearEdits(
        rows,
        cols,
        0 if up is None else len(up),
        0 if values is None else len(values),
        packed(edits.scale_in),
        widened(down),
        widened(up),
        packed(starts, np.int32),
        packed(indices, np.uint16),
        packed(values),
        kept_bits(edits.kept, cols),
        packed(edits.scale_out),
        packed(edits.bias),
    )


def end_edits(edits: EndEdits, width: int) -> kernels.EndEdits:
    """Make the edits of an end ready for the kernels."""
    bottleneck = None if edits.bottleneck is None else bottleneck_parts(edits.bottleneck)
    return kernels.EndEdits(width, norm_parts(edits.norm), bottleneck)


def bottleneck_parts(edits: BottleneckEdits) -> tuple[Any, ...]:
    """Tell a bottleneck in the order of kernels/edits_objects.c."""
    place = edits.place
    return (
        STATES[place.input],
        STATES[place.base],
        place.base_before_norm,
        place.closes,
        CODES[place.activation],
        len(edits.up[0]),
        widened(edits.down[0]),
        widened(edits.down[1]),
        widened(edits.up[0]),
        widened(edits.up[1]),
        norm_parts(edits.before),
        norm_parts(edits.after),
    )


def norm_parts(norm: Norm | None) -> tuple[Array, Array, float] | None:
    """Tell a norm as weight, bias and eps."""
    if norm is None:
        return None
    return np.ascontiguousarray(norm.weight), np.ascontiguousarray(norm.bias), norm.eps


def packed(array: Any, kind: Any = np.float32) -> Any:
    """Return the elements in one piece."""
    return None if array is None else np.ascontiguousarray(array, kind)


def widened(array: Any) -> Any:
    """Fill lines up with zeros to whole strips; an array of whole strips stays where it is."""
    if array is None:
        return None
    missing = -array.shape[-1] % STRIP
    before = [(0, 0)] * (array.ndim - 1)
    return packed(np.pad(array, [*before, (0, missing)]) if missing else array)


def kept_bits(bits: Any, cols: int) -> Any:
    """Fill lines of bits up to whole strips."""
    if bits is None:
        return None
    missing = -(-cols // STRIP) * STRIP // 8 - bits.shape[1]
    return packed(np.pad(bits, [(0, 0), (0, missing)]) if missing else bits, np.uint8)

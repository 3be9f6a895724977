"""The operators of an encoder by compiled kernels, for passes that are composed of them.

What is not overridden here is NumPy's. The whole pass of BERT-like encoders is compiled.py.
"""

from array import array
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend import compiled_layers
from pageformer.cpu_backend.edited_layers import EditedLayers, known
from pageformer.cpu_backend.edits import CODES, end_edits, linear_edits
from pageformer.cpu_backend.rooms import Rooms
from pageformer.udfs.attention import Rotary
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.layout import Layout
from pageformer.udfs.operators import Operators
from pageformer.udfs.tasks.edits import EndEdits, LinearEdits, Norm, Term


class CpuOperators(Operators):
    """Compute with the kernels of one variant; the best that this machine has, by default."""

    name = "cpu"

    def __init__(self, variant: str | None = None) -> None:
        self.variant = variant or kernels.variants()[0]
        self._rooms = Rooms()
        self._made: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by the edits of a task

    def linear(
        self,
        x: Array,
        W: BlockMatrix,
        bias: Array | None = None,
        activation: str | None = None,
        residual: Array | None = None,
        norm: Norm | None = None,
        terms: Sequence[Term] = (),
    ) -> Array:
        """Compute norm(activation(x W + terms(x) + bias) + residual).  # [n, k] -> [n, m]"""
        if activation in CODES:
            y = self._product(x, W, bias, CODES[activation], residual, terms)
        else:
            y = self.activate(self._product(x, W, bias, CODES[None], None, terms), activation or "")
            y = y if residual is None else y + residual
        return y if norm is None else self.layer_norm(y, norm)

    def matmul(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by a grid of blocks, reading each where it lies.  # [n, k], [k, m] -> [n, m]"""
        return self._product(x, W, None, CODES[None], None)

    def _product(
        self,
        x: Array,
        W: BlockMatrix,
        bias: Array | None,
        code: int,
        residual: Array | None,
        terms: Sequence[Term] = (),
    ) -> Array:
        blocks = [block for row in W.grid for block in row]
        weight = kernels.Matrix(blocks, W.rows, W.cols, W.side)
        shape = x.shape[0], W.cols
        y = self._rooms.rows(*shape) if code and residual is None else self._rooms.empty(shape)
        bias, residual = (None if a is None else packed(a) for a in (bias, residual))
        edited = [(t.start, t.stop, self._linear_edits(t.edits, W.rows, W.cols)) for t in terms]
        kernels.linear(
            self.variant, rows_of(x), x.shape[0], weight, bias, code, residual, y, edited
        )
        return y

    def add_norm(
        self, x: Array, residual: Array | None, norm: Norm | None, terms: Sequence[Term]
    ) -> Array:
        """Compute norm(x + residual), each task's rows as it has it.  # [n, w] -> [n, w]"""
        if not all(known(term.edits) for term in terms):
            return super().add_norm(x, residual, norm, terms)
        y = self._rooms.empty(x.shape)
        rows, width = x.shape
        weight, bias, eps = (None, None, 0.0) if norm is None else norm
        given = [None if a is None else packed(a) for a in (residual, weight, bias)]
        edited = [(t.start, t.stop, self._end_edits(t.edits, width)) for t in terms]
        kernels.add_norm(
            self.variant, packed(x), given[0], rows, width, given[1], given[2], eps, y, edited
        )
        return y

    def layers(self, layout: Layout) -> EditedLayers | None:
        """Return what runs all layers of a version in one job, if there is such."""
        if layout.borrow is not None or not compiled_layers.fits(layout.config):
            return None
        return EditedLayers(layout, self.variant, self._linear_edits, self._end_edits)

    def _linear_edits(self, edits: LinearEdits, rows: int, cols: int) -> kernels.LinearEdits:
        made: kernels.LinearEdits | None = self._made.get(edits)
        if made is None:
            made = self._made[edits] = linear_edits(edits, rows, cols)
        return made

    def _end_edits(self, edits: EndEdits, width: int) -> kernels.EndEdits:
        made: kernels.EndEdits | None = self._made.get(edits)
        if made is None:
            made = self._made[edits] = end_edits(edits, width)
        return made

    def attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        offsets: Sequence[int],
        heads: int,
        bias: Array | None = None,
        window: int | None = None,
        rotary: Rotary | None = None,
        seen: int | None = None,
    ) -> Array:
        """Compute softmax(q k^T / sqrt(d) + bias) v in each sequence.  # 3 x [n, w] -> [n, w]"""
        if rotary is not None or seen is not None:
            return super().attention(q, k, v, offsets, heads, bias, window, rotary, seen)
        y = self._rooms.empty(q.shape)
        longest = int(np.diff(offsets).max(initial=1)) if bias is None else bias.shape[1] // 2 + 1
        kernels.attention(
            self.variant, packed(q), packed(k), packed(v), array("i", offsets), q.shape[1], heads,
            None if bias is None else packed(bias), longest,
            -1 if window is None else window, y,
        )  # fmt: skip
        return y

    def layer_norm(self, x: Array, norm: Norm) -> Array:
        """Normalise each row (Ba et al. 2016).  # [n, w] -> [n, w]"""
        return self.add_norm(x, None, norm, ())

    def pool(self, x: Array, offsets: Sequence[int], how: str, skip: int = 0) -> Array:
        """Make a row of each sequence, of its tokens behind `skip`.  # [n, w] -> [s, w]"""
        if skip or how not in ("mean", "cls"):
            return super().pool(x, offsets, how, skip)
        y = np.empty((len(offsets) - 1, x.shape[1]), np.float32)
        kernels.pool(self.variant, packed(x), array("i", offsets), x.shape[1], how == "cls", y)
        return y

    def normalize(self, x: Array) -> Array:
        """Scale each row to length 1; a zero row stays zero.  # [n, w] -> [n, w]"""
        y = np.empty(x.shape, np.float32)
        rows, width = x.shape
        kernels.normalize(self.variant, packed(x), rows, width, y)
        return y


def packed(x: Array) -> Array:
    """Return the elements in one piece, as float32."""
    return np.ascontiguousarray(x, np.float32)


def rows_of(x: Array) -> Array:
    """Return rows of float32, each in one piece."""
    whole = x.dtype == np.float32 and x.strides[1] == 4 and x.strides[0] >= 4 * x.shape[1]
    return x if whole else packed(x)

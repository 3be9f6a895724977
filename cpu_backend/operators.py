"""The operators of an encoder by compiled kernels, for passes that are composed of them.

What is not overridden here is NumPy's. The whole pass of BERT-like encoders is compiled.py.
"""

from array import array
from collections.abc import Sequence

import numpy as np

from pageformer.cpu_backend import _kernels as kernels
from pageformer.udfs.attention import Rotary
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.edits import Norm, Term
from pageformer.udfs.operators import Operators

CODES = {None: 0, "gelu": 1, "gelu_tanh": 2, "relu": 3}


class CpuOperators(Operators):
    """Compute with the kernels of one variant; the best that this machine has, by default."""

    name = "cpu"

    def __init__(self, variant: str | None = None) -> None:
        self.variant = variant or kernels.variants()[0]

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
        if terms or activation not in CODES:
            return super().linear(x, W, bias, activation, residual, norm, terms)
        y = self._product(x, W, bias, CODES[activation], residual)
        return y if norm is None else self.layer_norm(y, norm)

    def matmul(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by a grid of blocks, reading each where it lies.  # [n, k], [k, m] -> [n, m]"""
        return self._product(x, W, None, CODES[None], None)

    def _product(
        self, x: Array, W: BlockMatrix, bias: Array | None, code: int, residual: Array | None
    ) -> Array:
        blocks = [block for row in W.grid for block in row]
        weight = kernels.Matrix(blocks, W.rows, W.cols, W.side)
        y = np.empty((x.shape[0], W.cols), np.float32)
        bias, residual = (None if a is None else packed(a) for a in (bias, residual))
        kernels.linear(self.variant, packed(x), x.shape[0], weight, bias, code, residual, y)
        return y

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
        y = np.empty(q.shape, np.float32)
        longest = int(np.diff(offsets).max(initial=1)) if bias is None else bias.shape[1] // 2 + 1
        kernels.attention(
            self.variant, packed(q), packed(k), packed(v), array("i", offsets), q.shape[1], heads,
            None if bias is None else packed(bias), longest,
            -1 if window is None else window, y,
        )  # fmt: skip
        return y

    def layer_norm(self, x: Array, norm: Norm) -> Array:
        """Normalise each row (Ba et al. 2016).  # [n, w] -> [n, w]"""
        y = np.empty(x.shape, np.float32)
        weight, bias = packed(norm.weight), packed(norm.bias)
        rows, width = x.shape
        kernels.layer_norm(self.variant, packed(x), rows, width, weight, bias, norm.eps, y)
        return y

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

"""The dozen operators of the forward pass, complete and portable: NumPy defines their meaning.

A faster backend overrides single operators. Activations are one padding-free `[tokens, width]`
matrix of float32; `offsets` `[sequences + 1]` says where each sequence begins and ends. Nothing
here knows a model, a page or a database. `xp` is the array module, so that a backend with NumPy's
interface (CuPy) inherits all of it.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pageformer.errors import NotBuilt
from pageformer.udfs.activations import ACTIVATIONS
from pageformer.udfs.attention import Attention
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.layout import Layout
from pageformer.udfs.tasks.edits import EditOperators, Norm, Term

ROWS_IN_CACHE = 64


class WholeLayers(Protocol):
    """Run all layers of a version in one call."""

    def knows(self, terms: Mapping[str, Sequence[Term]]) -> bool:
        """Tell whether all that tasks edit in layers is computed."""

    def states(
        self, x: Array, offsets: Sequence[int], terms: Mapping[str, Sequence[Term]], pulse: Pulse
    ) -> Array:
        """Compute the last state of every token.  # [n, hidden] -> [n, hidden]"""


class Operators(Attention, EditOperators):
    """Compute the operators of an encoder with NumPy."""

    name = "numpy"

    def at(self, compute: str) -> "Operators":
        """Return the operators of a precision; raises NotBuilt where there are none."""
        if compute in ("float32", "auto"):
            return self
        raise NotBuilt(
            f"this model is not computed in {compute} by backend '{self.name}'",
            hint="run: select pageformer.set_compute(model, 'float32')",
        )

    def layers(self, layout: Layout) -> WholeLayers | None:
        """Return what runs all layers of a version in one call; None: they are composed."""
        return None

    def page_array(self, page: memoryview, name: bytes | None = None) -> Array:
        """Return the float32 elements of a mapped page, in place where the device allows it.

        name: the page's hash, by which a device knows what it holds already.
        """
        return np.frombuffer(page, np.float32)

    def bundle(self, matrix: BlockMatrix) -> Array:
        """Return the elements of a one-column grid as one vector (a copy)."""
        return self.xp.concatenate([tile.ravel() for (tile,) in matrix.grid])  # type: ignore[no-any-return]

    def array(self, values: Any) -> Array:
        """Return `values` as an array of this backend."""
        return self.xp.asarray(values)  # type: ignore[no-any-return]

    def to_host(self, values: Array) -> Array:
        """Return an array of this backend as a NumPy array."""
        return values

    # -- products ---------------------------------------------------------------------------------

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
        """Compute norm(activation(x W + bias) + residual).  # [n, k] -> [n, m]

        terms: what tasks change in x W + bias, each on rows of its own.
        """
        y = self.edited_product(x, W, terms) if terms else self.matmul(x, W)
        if bias is not None:
            y += bias
        for start, stop, edits in terms:
            if edits.bias is not None:
                y[start:stop] += edits.bias
        if activation is not None:
            y = self.activate(y, activation)
        if residual is not None:
            y += residual
        return y if norm is None else self.layer_norm(y, norm)

    def matmul(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by a grid of blocks, reading each where it lies.  # [n, k], [k, m] -> [n, m]"""
        y = self.xp.zeros((x.shape[0], W.cols), np.float32)
        for i, row in enumerate(W.grid):
            x_i = x[:, W.row_span(i)]
            for j, block in enumerate(row):
                cols = W.col_span(j)
                y[:, cols] += x_i @ block[: x_i.shape[1], : cols.stop - cols.start]
        return y  # type: ignore[no-any-return]

    def scores(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by the rows of a table: x W^T.  # [n, w], [rows, w] -> [n, rows]"""
        y = self.xp.zeros((x.shape[0], W.rows), np.float32)
        for i, row in enumerate(W.grid):
            rows = W.row_span(i)
            for j, block in enumerate(row):
                x_j = x[:, W.col_span(j)]
                y[:, rows] += x_j @ block[: rows.stop - rows.start, : x_j.shape[1]].T
        return y  # type: ignore[no-any-return]

    # -- rows -------------------------------------------------------------------------------------

    def embed(self, lookups: Sequence[tuple[Any, BlockMatrix]], norm: Norm | None = None) -> Array:
        """Add the rows that each `(ids, table)` names, then normalise.  # -> [n, w]"""
        x = sum(self.rows(ids, table) for ids, table in lookups)
        return x if norm is None else self.layer_norm(x, norm)  # type: ignore[return-value,arg-type]

    def rows(self, ids: Any, table: BlockMatrix) -> Array:
        """Gather rows of a table straight from its blocks.  # [n], [v, w] -> [n, w]"""
        out = self.xp.empty((len(ids), table.cols), np.float32)
        block, row = np.divmod(np.asarray(ids), table.side)
        for i in np.unique(block):
            here = np.flatnonzero(block == i)
            for j, tile in enumerate(table.grid[i]):
                cols = table.col_span(j)
                out[here, cols] = tile[row[here], : cols.stop - cols.start]
        return out  # type: ignore[no-any-return]

    def layer_norm(self, x: Array, norm: Norm) -> Array:
        """Normalise each row (Ba et al. 2016).  # [n, w] -> [n, w]"""
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        centred /= self.xp.sqrt(variance + np.float32(norm.eps))
        centred *= norm.weight
        centred += norm.bias
        return centred  # type: ignore[no-any-return]

    def activate(self, x: Array, activation: str) -> Array:
        """Apply an activation by name, a few rows at a time so that they stay in cache."""
        function = ACTIVATIONS.get(activation)
        if function is None:
            raise NotBuilt(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
        for start in range(0, x.shape[0], ROWS_IN_CACHE):
            rows = slice(start, start + ROWS_IN_CACHE)
            x[rows] = function(self.xp, x[rows])
        return x

    def pool(self, x: Array, offsets: Sequence[int], how: str, skip: int = 0) -> Array:
        """Make a row of each sequence, of its tokens behind `skip`.  # [n, w] -> [s, w]

        how: a mode of sentence-transformers' Pooling: mean, cls, max, lasttoken ...
        """
        out = self.xp.zeros((len(offsets) - 1, x.shape[1]), np.float32)
        for s, (start, stop) in enumerate(itertools.pairwise(offsets)):
            if stop > start + skip:
                out[s] = POOLING[how](self.xp, x[start + skip : stop], skip)
        return out  # type: ignore[no-any-return]

    def beside(self, parts: Sequence[Array]) -> Array:
        """Put matrices side by side.  # [n, w] ... -> [n, sum of w]"""
        return self.xp.concatenate(parts, axis=1)  # type: ignore[no-any-return]

    def normalize(self, x: Array) -> Array:
        """Scale each row to length 1; a zero row stays zero.  # [n, w] -> [n, w]"""
        length = self.xp.sqrt((x * x).sum(axis=1, keepdims=True))
        return x / self.xp.maximum(length, np.float32(1e-12))  # type: ignore[no-any-return]


def weighted_mean(xp: Any, x: Array, skip: int) -> Array:
    """Average rows, each weighted by its place in the sequence (Muennighoff 2022).  # [n, w]"""
    weight = xp.arange(skip + 1, skip + 1 + x.shape[0], dtype=np.float32)
    return weight @ x / weight.sum()  # type: ignore[no-any-return]


POOLING: dict[str, Callable[[Any, Array, int], Array]] = {
    "mean": lambda xp, x, skip: x.mean(axis=0),
    "cls": lambda xp, x, skip: x[0],
    "max": lambda xp, x, skip: x.max(axis=0),
    "mean_sqrt_len_tokens": lambda xp, x, skip: x.sum(axis=0) / np.float32(math.sqrt(len(x))),
    "weightedmean": weighted_mean,
    "lasttoken": lambda xp, x, skip: x[-1],
}

"""What tasks change in products, norms and tables, each on a run of rows of a batch.

The rows of a batch are sorted by task, so that the rows of one task are a slice. NumPy defines the
meaning, slice by slice; a faster backend computes all slices of a site in one call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.tasks.task import Bottleneck, State

EVERY_ROW = (1 << 31) - 1  # a C int: where a term ends that edits all rows


class Norm(NamedTuple):
    """Hold the parameters of a layer norm: weight and bias `[width]`, and eps."""

    weight: Array
    bias: Array
    eps: float


class Sparse(NamedTuple):
    """Hold few entries of a matrix, line by line: columns of a weight, or rows of a table."""

    starts: Any  # [lines + 1]
    indices: Any  # [entries]: the row of the weight, or the column of the table
    values: Array  # [entries]


@dataclass(frozen=True, eq=False)
class LinearEdits:
    """Hold what a task changes at a linear map, in the order in which it does (task.py)."""

    scale_in: Array | None = None  # [in]
    low_rank: tuple[Array, Array] | None = None  # [in, rank], [rank, out]
    sparse: Sparse | None = None
    kept: Any = None  # bits [in, ceil(out / 8)], the first one lowest
    scale_out: Array | None = None  # [out]
    bias: Array | None = None  # [out], to be added to the bias


@dataclass(frozen=True, eq=False)
class TableEdits:
    """Hold what a task changes in a table."""

    rows: tuple[Any, Array] | None = None  # numbers [n] ascending, values [n, width]
    low_rank: tuple[Array, Array] | None = None  # [rows, rank], [rank, width]
    sparse: Sparse | None = None


@dataclass(frozen=True, eq=False)
class BottleneckEdits:
    """Hold a bottleneck: where it stands, its two maps, and norms of its own."""

    place: Bottleneck
    down: tuple[Array, Array]  # [hidden, rank], [rank]
    up: tuple[Array, Array]  # [rank, hidden], [hidden]
    before: Norm | None = None
    after: Norm | None = None


@dataclass(frozen=True, eq=False)
class EndEdits:
    """Hold what a task changes where a sub-layer ends, or at a norm that stands alone."""

    norm: Norm | None = None
    bottleneck: BottleneckEdits | None = None


class Term(NamedTuple):
    """Say what a task changes at some site on the rows `[start, stop)` of a batch."""

    start: int
    stop: int
    edits: Any  # LinearEdits, EndEdits, TableEdits ... as the site has it


class EditOperators:
    """Compute edits with the array module `xp`, over the operators of operators.py."""

    xp: Any = np
    matmul: Callable[[Array, BlockMatrix], Array]
    activate: Callable[[Array, str], Array]
    layer_norm: Callable[[Array, Norm], Array]

    def edited_product(self, x: Array, W: BlockMatrix, terms: Sequence[Term]) -> Array:
        """Compute x W with all edits but those of the bias.  # [n, k], [k, m] -> [n, m]"""
        x = self._scaled(x, terms)
        y = self.matmul(x, W)
        for start, stop, edits in terms:
            y[start:stop] = self._edited(x[start:stop], W, y[start:stop], edits)
        return y

    def _scaled(self, x: Array, terms: Sequence[Term]) -> Array:
        if all(term.edits.scale_in is None for term in terms):
            return x
        x = x.copy()
        for start, stop, edits in terms:
            if edits.scale_in is not None:
                x[start:stop] *= edits.scale_in
        return x

    def _edited(self, x: Array, W: BlockMatrix, y: Array, edits: LinearEdits) -> Array:
        if edits.kept is not None:
            y = self._masked(x, W, edits.kept)
        if edits.low_rank is not None:
            down, up = edits.low_rank
            y += (x @ down) @ up
        if edits.sparse is not None:
            y += x @ self._dense(edits.sparse, W.rows)
        return y if edits.scale_out is None else y * edits.scale_out

    def _masked(self, x: Array, W: BlockMatrix, kept: Any) -> Array:
        """Multiply by the weights that are kept.  # [n, k], [k, m] -> [n, m]"""
        bits = np.unpackbits(kept, axis=1, count=W.cols, bitorder="little").astype(bool)
        y = self.xp.zeros((x.shape[0], W.cols), np.float32)
        for i, row in enumerate(W.grid):
            rows = W.row_span(i)
            for j, block in enumerate(row):
                cols = W.col_span(j)
                part = block[: rows.stop - rows.start, : cols.stop - cols.start]
                y[:, cols] += x[:, rows] @ (part * self.xp.asarray(bits[rows, cols]))
        return y  # type: ignore[no-any-return]

    def _dense(self, sparse: Sparse, rows: int) -> Array:
        """Spread a weight's few entries over all of it.  # -> [rows, columns]"""
        counts = np.diff(sparse.starts)
        dense: Array = self.xp.zeros((rows, len(counts)), np.float32)
        dense[np.asarray(sparse.indices, np.intp), np.repeat(np.arange(len(counts)), counts)] = (
            sparse.values
        )
        return dense

    def add_norm(
        self, x: Array, residual: Array | None, norm: Norm | None, terms: Sequence[Term]
    ) -> Array:
        """Compute norm(x + residual), each task's rows as it has it.  # [n, w] -> [n, w]"""
        y = self.xp.empty_like(x)
        start = 0
        for term in (*terms, Term(len(x), len(x), EndEdits())):
            for rows, edits in (
                (slice(start, term.start), EndEdits()),
                (slice(term.start, term.stop), term.edits),
            ):
                if rows.start < rows.stop:
                    given = None if residual is None else residual[rows]
                    y[rows] = self._ended(x[rows], given, edits.norm or norm, edits.bottleneck)
            start = term.stop
        return y  # type: ignore[no-any-return]

    def _ended(
        self,
        x: Array,
        residual: Array | None,
        norm: Norm | None,
        bottleneck: BottleneckEdits | None,
    ) -> Array:
        if bottleneck is not None:
            x = self._bottleneck(x, residual, norm, bottleneck)
            if not bottleneck.place.closes:
                return x
        return self._normed(x if residual is None else x + residual, norm)

    def _bottleneck(
        self, x: Array, residual: Array | None, norm: Norm | None, edits: BottleneckEdits
    ) -> Array:
        """Compute up(activation(down(input))) + base (Houlsby et al. 2019).  # [n, w] -> [n, w]"""
        added = x if residual is None else x + residual
        states: dict[State, Array] = {"product": x, "added": added}
        states["residual"] = x if residual is None else residual
        if "normed" in (edits.place.input, edits.place.base):
            states["normed"] = self._normed(added, norm)
        h = self._normed(states[edits.place.input], edits.before)
        h = self.activate(h @ edits.down[0] + edits.down[1], edits.place.activation)
        y = h @ edits.up[0] + edits.up[1]
        base = states[edits.place.base]
        if edits.place.base_before_norm:
            return self._normed(y + base, edits.after)
        return self._normed(y, edits.after) + base

    def _normed(self, x: Array, norm: Norm | None) -> Array:
        return x if norm is None else self.layer_norm(x, norm)

    def edited_rows(self, x: Array, ids: Any, terms: Sequence[Term]) -> Array:
        """Change rows that were looked up by `ids` as tasks have them.  # [n, w] -> [n, w]"""
        for start, stop, edits in terms:
            self._edit_rows(x[start:stop], ids[start:stop], edits)
        return x

    def _edit_rows(self, x: Array, ids: Any, edits: TableEdits) -> None:
        if edits.rows is not None:
            numbers, values = edits.rows
            found = np.minimum(np.searchsorted(numbers, ids), len(numbers) - 1)
            hit = np.flatnonzero(numbers[found] == ids)
            x[hit] = values[found[hit]]
        if edits.low_rank is not None:
            x += edits.low_rank[0][ids] @ edits.low_rank[1]
        if edits.sparse is not None:
            starts, indices, values = edits.sparse
            counts = starts[ids + 1] - starts[ids]
            token = np.repeat(np.arange(len(ids)), counts)
            entry = np.arange(counts.sum()) + np.repeat(
                starts[ids] - np.cumsum(counts) + counts, counts
            )
            x[token, np.asarray(indices[entry], np.intp)] += values[entry]

"""The operators over kernels of our own, whatever launches them; what they do not take is composed.

Activations flow in one element type; parameters of norms, biases and sums are float32.
An operator that no kernel has is inherited, and computes in float32 between two conversions.
"""

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from pageformer.gpu_backend import launches
from pageformer.gpu_backend.buffer_pool import BufferPool
from pageformer.gpu_backend.device import DeviceOperators
from pageformer.gpu_backend.launches import Launch
from pageformer.gpu_backend.paged import PagedArray
from pageformer.udfs.attention import Relative, Rotary
from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.tasks.edits import Norm, Term

FLOAT32 = np.dtype(np.float32)


class FusedOperators(DeviceOperators):
    """Compute the operators with kernels, in one element type, over pages kept under a limit."""

    def __init__(self, kept: BufferPool, element: Any = FLOAT32) -> None:
        self.kept = kept
        self.element = np.dtype(element)
        self._keys: weakref.WeakValueDictionary[int, BlockMatrix] = weakref.WeakValueDictionary()

    # -- what a device brings ----------------------------------------------------------------------

    def launch(self, launch: Launch, *arguments: Any) -> None:
        """Run a kernel on arrays, numbers (as NumPy's, of the kernel's types) and None."""
        raise NotImplementedError

    def product(self, x: Array, W: Array, out: Array) -> None:
        """Compute x W into out, adding up in float32.  # [n, k], [k, m] -> [n, m]"""
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...], element: Any) -> Array:
        """Return an array whose numbers are not set yet."""
        return self.xp.empty(shape, element)  # type: ignore[no-any-return]

    def fetched(self, values: Array) -> Array:
        """Copy an array of the device to the host."""
        raise NotImplementedError

    # -- element types -----------------------------------------------------------------------------

    def wide(self, x: Array | None) -> Any:
        """Return x in float32; the same array, if it is."""
        return self._as(x, FLOAT32)

    def _as(self, x: Any, element: Any) -> Any:
        return x if x is None or x.dtype == element else x.astype(element)

    def to_host(self, values: Array) -> Array:
        """Copy an array of the device, or of a page, to the host, in float32."""
        there = values.array() if isinstance(values, PagedArray) else values
        return self._as(self.fetched(there), FLOAT32)  # type: ignore[no-any-return]

    # -- pages and matrices ------------------------------------------------------------------------

    def page_array(self, page: memoryview, name: bytes | None = None) -> Any:
        """View a page that is copied to the device when a block is wanted; `name`: its hash."""
        key: Any = name or object()

        def opened() -> Any:
            return self.kept.get(key, page.nbytes, lambda: self.array(np.frombuffer(page, "f4")))

        return PagedArray(opened, 0, page.nbytes // 4)

    def gathered(self, W: BlockMatrix) -> Array | None:
        """Return a matrix in one piece, kept by its blocks' owner; None: larger than the limit."""
        size = W.rows * W.cols * self.element.itemsize
        if size > self.kept.limit or not isinstance(W.grid, tuple):
            return None
        key = (id(W), self.element)
        if id(W) not in self._keys:
            self._keys[id(W)] = W
            weakref.finalize(W, self.kept.forget, key).atexit = False
        found: Array = self.kept.get(key, size, lambda: self._gather(W), 2 * size)
        return found

    def _gather(self, W: BlockMatrix) -> Array:
        matrix = self.xp.empty((W.rows, W.cols), self.element)
        for i, row in enumerate(W.grid):
            rows = W.row_span(i)
            for j, block in enumerate(row):
                cols = W.col_span(j)
                matrix[rows, cols] = block[: rows.stop - rows.start, : cols.stop - cols.start]
        return matrix  # type: ignore[no-any-return]

    # -- products ----------------------------------------------------------------------------------

    def matmul(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by a matrix in one piece; the result has the element type of x."""
        matrix = self.gathered(W)
        if matrix is None:
            return self._as(super().matmul(self.wide(x), W), x.dtype)  # type: ignore[no-any-return]
        out = self.empty((x.shape[0], W.cols), x.dtype)
        if x.shape[0]:
            self.product(self.xp.ascontiguousarray(self._as(x, self.element)), matrix, out)
        return out

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
        """Compute norm(activation(x W + bias) + residual): a product, then one kernel or two."""
        if terms or activation not in launches.ACTIVATIONS:
            wide = super().linear(
                self.wide(x), W, bias, activation, self.wide(residual), norm, terms
            )
            return self._as(wide, self.element)  # type: ignore[no-any-return]
        y = self.matmul(self._as(x, self.element), W)
        residual = self._as(residual, y.dtype)
        if norm is None or activation is not None:
            ends = residual if norm is None else None
            self._activate(y, bias, activation, ends)
            bias, residual = None, None if norm is None else residual
        return y if norm is None else self._norm(y, y, bias, residual, norm)

    def scores(self, x: Array, W: BlockMatrix) -> Array:
        """Multiply by the rows of a table, in float32."""
        return super().scores(self.wide(x), W)

    # -- attention ---------------------------------------------------------------------------------

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
        """Compute attention in each sequence, all sequences and heads in one launch."""
        tiles, width = launches.tiles(offsets), q.shape[1] // heads
        launch = launches.attention(len(tiles), heads, width, q.dtype.name)
        if launch is None:
            wide_q, wide_k, wide_v = (self.wide(t) for t in (q, k, v))
            mixed = super().attention(
                wide_q, wide_k, wide_v, offsets, heads, bias, window, rotary, seen
            )
            return self._as(mixed, q.dtype)  # type: ignore[no-any-return]
        if rotary is not None:
            q, k = (self._as(self._turned(t, offsets, heads, rotary), t.dtype) for t in (q, k))
        out = self.empty(q.shape, q.dtype)
        self.launch(
            launch,
            out,
            *(self.xp.ascontiguousarray(t) for t in (q, k, v)),
            self.xp.asarray(np.array(tiles, np.int32)),
            None if bias is None else self.xp.ascontiguousarray(bias),
            np.float32(1 / math.sqrt(width)),
            np.int32(width),
            np.int32(q.shape[1]),
            np.int32(0 if bias is None else bias.shape[1] // 2 + 1),
            np.int32(launches.FAR if window is None else window // 2),
            np.int32(launches.FAR if seen is None else seen),
        )
        return out

    def _turned(self, x: Array, offsets: Sequence[int], heads: int, rotary: Rotary) -> Array:
        """Rotate the halves of each head by its token's position.  # [n, w] -> [n, w]"""
        starts = np.repeat(offsets[:-1], np.diff(offsets))
        position = self.xp.asarray(np.arange(x.shape[0]) - starts)
        tables = (table[position][:, None, :] for table in rotary)
        split = self.wide(x).reshape(x.shape[0], heads, -1)
        half = split.shape[2] // 2
        turned = self.xp.concatenate((-split[..., half:], split[..., :half]), axis=-1)
        cosine, sine = tables
        return (split * cosine + turned * sine).reshape(x.shape)  # type: ignore[no-any-return]

    def disentangled_attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        offsets: Sequence[int],
        heads: int,
        relative: Relative,
    ) -> Array:
        """Compute attention to content and to relative positions, in float32."""
        keys, queries = self.wide(relative.keys), self.wide(relative.queries)
        wide = relative._replace(keys=keys, queries=queries)
        mixed = super().disentangled_attention(
            self.wide(q), self.wide(k), self.wide(v), offsets, heads, wide
        )
        return self._as(mixed, q.dtype)  # type: ignore[no-any-return]

    def softmax(self, x: Array) -> Array:
        """Normalise exponentials along the last axis; overwrites x."""
        rows = math.prod(x.shape[:-1])
        launch = launches.softmax(rows, x.shape[-1], x.dtype.name)
        if launch is None:
            return x
        x = self.xp.ascontiguousarray(x)
        self.launch(launch, x, np.int32(rows), np.int32(x.shape[-1]))
        return x

    # -- rows --------------------------------------------------------------------------------------

    def embed(self, lookups: Sequence[tuple[Any, BlockMatrix]], norm: Norm | None = None) -> Array:
        """Add rows in float32, then normalise and narrow."""
        return self._as(super().embed(lookups, norm), self.element)  # type: ignore[no-any-return]

    def rows(self, ids: Any, table: BlockMatrix) -> Array:
        """Gather rows of a table in one piece, or of its blocks.  # -> [n, w], float32"""
        matrix = self.gathered(table)
        if matrix is None:
            return super().rows(ids, table)
        return self._as(matrix[self.xp.asarray(ids)], FLOAT32)  # type: ignore[no-any-return]

    def layer_norm(self, x: Array, norm: Norm) -> Array:
        """Normalise each row, by a pass over its mean and one over its variance."""
        out = self.empty(x.shape, x.dtype)
        return self._norm(out, self.xp.ascontiguousarray(x), None, None, norm)

    def _norm(
        self, out: Array, x: Array, bias: Array | None, residual: Array | None, norm: Norm
    ) -> Array:
        """Compute norm(x + bias + residual) into out, which may be x."""
        rows, width = x.shape
        launch = launches.layer_norm(rows, width, x.dtype.name)
        if launch is None:
            added = self._sum(x, bias, residual)
            return self._as(super().layer_norm(added, norm), x.dtype)  # type: ignore[no-any-return]
        if residual is not None:
            residual = self.xp.ascontiguousarray(residual)
        numbers = np.float32(norm.eps), np.int32(rows), np.int32(width)
        self.launch(launch, out, x, bias, residual, norm.weight, norm.bias, *numbers)
        return out

    def _sum(self, x: Array, bias: Array | None, residual: Array | None) -> Any:
        """Add up in float32."""
        x = self.wide(x)
        x = x if bias is None else x + bias
        return x if residual is None else x + self.wide(residual)

    def activate(self, x: Array, activation: str) -> Array:
        """Apply an activation by name, in place."""
        if activation not in launches.ACTIVATIONS:
            return super().activate(x, activation)
        x = self.xp.ascontiguousarray(x)
        self._activate(x, None, activation, None)
        return x

    def _activate(
        self, x: Array, bias: Array | None, activation: str | None, residual: Array | None
    ) -> None:
        """Compute activation(x + bias) + residual in place."""
        count = math.prod(x.shape)
        launch = launches.activation(count, x.dtype.name)
        if launch is None or (bias is None and residual is None and activation is None):
            return
        if residual is not None:
            residual = self.xp.ascontiguousarray(residual)
        kind = np.int32(launches.ACTIVATIONS.index(activation))
        self.launch(launch, x, bias, residual, kind, np.int64(count), np.int32(x.shape[-1]))

    def add_norm(
        self, x: Array, residual: Array | None, norm: Norm | None, terms: Sequence[Term]
    ) -> Array:
        """Compute norm(x + residual), each task's rows as it has it, in float32."""
        added = super().add_norm(self.wide(x), self.wide(residual), norm, terms)
        return self._as(added, x.dtype)  # type: ignore[no-any-return]

    def pool(self, x: Array, offsets: Sequence[int], how: str, skip: int = 0) -> Array:
        """Make a row of each sequence, of float32."""
        return super().pool(self.wide(x), offsets, how, skip)

    def normalize(self, x: Array) -> Array:
        """Scale each row to length 1, in float32."""
        return super().normalize(self.wide(x))

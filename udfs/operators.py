"""The dozen operators of the forward pass, complete and portable: NumPy defines their meaning.

A faster backend overrides single operators. Activations are one padding-free `[tokens, width]`
matrix of float32; `offsets` `[sequences + 1]` says where each sequence begins and ends. Nothing
here knows a model, a page or a database. `xp` is the array module, so that a backend with NumPy's
interface (CuPy) inherits all of it.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pageformer.errors import NotBuilt
from pageformer.udfs.blocks import Array, BlockMatrix

Term = Callable[[Array], Array]  # [tokens, in] -> [tokens, out], what a task adds to a product


class Norm(NamedTuple):
    """Hold the parameters of a layer norm: weight and bias `[width]`, and eps."""

    weight: Array
    bias: Array
    eps: float


class Rotary(NamedTuple):
    """Hold rotary position tables: cosines and sines `[positions, head_width]`."""

    cosine: Array
    sine: Array


class Relative(NamedTuple):
    """Hold what DeBERTa adds to scores: keys and queries `[buckets, width]` of relative positions.

    index: by relative position j - i + longest - 1, which row of both stands for it.
    """

    keys: Array | None
    queries: Array | None
    index: Any  # [2 longest - 1]


# erf(x) = x P(x^2) / Q(x^2) on [-4, 4], minimax by reweighted least squares; float32 error 4e-7.
ERF_P = (1.1283789873, 0.19624952972, 0.0534675531, 4.003670997e-3, 2.8804221e-4, 1.97482814e-6)
ERF_Q = (1.0, 0.50725275278, 0.116476655, 0.01544447047, 1.216366421e-3, 3.74808842e-5)
ROWS_IN_CACHE = 64


class Operators:
    """Compute the operators of an encoder with NumPy."""

    name = "numpy"
    xp: Any = np

    def page_array(self, page: memoryview) -> Array:
        """Return the float32 elements of a mapped page, in place where the device allows it."""
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
        """Compute norm(activation(x W + terms(x) + bias) + residual).  # [n, k] -> [n, m]"""
        y = self.matmul(x, W)
        for term in terms:
            y += term(x)
        if bias is not None:
            y += bias
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

    # -- attention --------------------------------------------------------------------------------

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
        """Compute softmax(q k^T / sqrt(d) + bias) v in each sequence.  # 3 x [n, w] -> [n, w]

        bias: `[heads, 2 longest - 1]`, by relative position j - i + longest - 1 (Shaw et al. 2018).
        window: positions further apart than window // 2 do not see each other.
        rotary: rotate halves of q and k by their position (Su et al. 2021).
        seen: the keys behind so many of each sequence are not looked at.
        """
        out = self.xp.empty_like(q)
        for length, start, stop in equal_lengths(offsets):
            split = (-1, length, heads, q.shape[1] // heads)  # [sequences, length, heads, d]
            qs, ks, vs = (t[start:stop].reshape(split).swapaxes(1, 2) for t in (q, k, v))
            if rotary is not None:
                qs, ks = self.rotate(qs, rotary), self.rotate(ks, rotary)
            scores = qs @ ks.swapaxes(2, 3)  # [sequences, heads, length, length]
            scores *= np.float32(1 / np.sqrt(split[3]))
            if bias is not None:
                scores += self.by_distance(bias, length)
            if window is not None:
                scores += self.beyond(window, length)
            blind = self.hide(scores, seen, window)
            mixed = self.softmax(scores) @ vs  # [sequences, heads, length, d]
            mixed[..., blind, :] = 0
            out[start:stop] = mixed.swapaxes(1, 2).reshape(stop - start, -1)
        return out  # type: ignore[no-any-return]

    def disentangled_attention(
        self,
        q: Array,
        k: Array,
        v: Array,
        offsets: Sequence[int],
        heads: int,
        relative: Relative,
    ) -> Array:
        """Compute attention to content and to relative positions (He et al. 2021, section 3.1).

        q k^T + q keys^T + queries k^T, over the root of the width times the number of terms.
        """
        out = self.xp.empty_like(q)
        terms = 1 + (relative.keys is not None) + (relative.queries is not None)
        scale = np.float32(1 / np.sqrt(q.shape[1] // heads * terms))
        for length, start, stop in equal_lengths(offsets):
            split = (-1, length, heads, q.shape[1] // heads)
            qs, ks, vs = (t[start:stop].reshape(split).swapaxes(1, 2) for t in (q, k, v))
            scores = qs @ ks.swapaxes(2, 3)  # [sequences, heads, length, length]
            position = self.xp.arange(length)
            apart = position[None, :] - position[:, None] + len(relative.index) // 2
            row = self.xp.asarray(relative.index)[apart]  # [length, length]
            if relative.keys is not None:
                to_position = qs @ per_head(relative.keys, heads)  # [s, heads, length, buckets]
                scores += to_position[:, :, position[:, None], row]
            if relative.queries is not None:
                from_position = ks @ per_head(relative.queries, heads)
                scores += from_position[:, :, position[None, :], row]
            mixed = self.softmax(scores * scale) @ vs  # [sequences, heads, length, d]
            out[start:stop] = mixed.swapaxes(1, 2).reshape(stop - start, -1)
        return out  # type: ignore[no-any-return]

    def softmax(self, x: Array) -> Array:
        """Normalise exponentials along the last axis, stable; overwrites x."""
        x -= x.max(axis=-1, keepdims=True)
        self.xp.exp(x, out=x)
        x /= x.sum(axis=-1, keepdims=True)
        return x

    def by_distance(self, bias: Array, length: int) -> Array:
        """Spread a bias by relative position over a square.  # [h, 2m - 1] -> [h, l, l]"""
        position = self.xp.arange(length)
        middle = bias.shape[1] // 2
        return bias[:, position[None, :] - position[:, None] + middle]

    def beyond(self, window: int, length: int) -> Array:
        """Return minus infinity where two positions are outside one window.  # [length, length]"""
        position = self.xp.arange(length)
        apart = self.xp.abs(position[None, :] - position[:, None])
        mask: Array = self.xp.where(apart > window // 2, -np.inf, 0).astype(np.float32)
        return mask

    def hide(self, scores: Array, seen: int | None, window: int | None) -> slice:
        """Hide the keys behind `seen`; return the positions whose window has no other key."""
        if seen is None:
            return slice(0, 0)
        scores[..., seen:] = -np.inf
        blind = slice(scores.shape[-1] if window is None else seen + window // 2, None)
        scores[..., blind, :] = 0
        return blind

    def rotate(self, x: Array, rotary: Rotary) -> Array:
        """Rotate the two halves of each head by position.  # [s, heads, length, d]"""
        length, half = x.shape[2], x.shape[3] // 2
        turned = self.xp.concatenate((-x[..., half:], x[..., :half]), axis=-1)
        return x * rotary.cosine[:length] + turned * rotary.sine[:length]  # type: ignore[no-any-return]

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


def per_head(x: Array, heads: int) -> Array:
    """Split rows by head, transposed.  # [n, w] -> [heads, d, n]"""
    return x.reshape(x.shape[0], heads, -1).transpose(1, 2, 0)


def equal_lengths(offsets: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield `(length, start, stop)` for each run of neighbouring sequences of one length."""
    lengths = (stop - start for start, stop in itertools.pairwise(offsets))
    start = offsets[0]
    for length, run in itertools.groupby(lengths):
        stop = start + length * len(list(run))
        if length:
            yield length, start, stop
        start = stop


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


def relu(xp: Any, x: Array) -> Array:
    """Compute max(x, 0)."""
    return xp.maximum(x, np.float32(0))  # type: ignore[no-any-return]


def gelu(xp: Any, x: Array) -> Array:
    """Compute x Phi(x) = x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016)."""
    z = xp.clip(x * np.float32(np.sqrt(0.5)), -4, 4)
    t = z * z
    z *= horner(ERF_P, t)
    z /= horner(ERF_Q, t)
    return x * (np.float32(0.5) + np.float32(0.5) * xp.clip(z, -1, 1))  # type: ignore[no-any-return]


def gelu_tanh(xp: Any, x: Array) -> Array:
    """Compute GELU by its tanh approximation (same paper, section 2)."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (np.float32(1) + xp.tanh(inner))  # type: ignore[no-any-return]


def silu(xp: Any, x: Array) -> Array:
    """Compute x sigmoid(x) (Elfwing et al. 2018)."""
    return x * sigmoid(xp, x)


def sigmoid(xp: Any, x: Array) -> Array:
    """Compute 1 / (1 + exp(-x)) by tanh, which does not overflow."""
    return np.float32(0.5) + np.float32(0.5) * xp.tanh(np.float32(0.5) * x)  # type: ignore[no-any-return]


def horner(coefficients: Sequence[float], t: Array) -> Array:
    """Evaluate a polynomial in t, constant term first."""
    y = t * np.float32(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        y += np.float32(coefficient)
        y *= t
    y += np.float32(coefficients[0])
    return y


ACTIVATIONS: dict[str, Callable[[Any, Array], Array]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "sigmoid": sigmoid,
    "tanh": lambda xp, x: xp.tanh(x),
}

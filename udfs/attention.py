"""Attention within each sequence of a padding-free batch: the operators of operators.py for it."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pageformer.udfs.blocks import Array


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
    index: Any  # [2 longest - 1], it never falls or never rises

    def within(self, length: int) -> tuple[slice, Any]:
        """Return the rows that positions of one sequence need, and the index into these.

        What others of the batch need would change how a product is cut up, and so its last bits.
        """
        middle = len(self.index) // 2
        index = self.index[middle + 1 - length : middle + length]
        first = min(int(index[0]), int(index[-1]))
        return slice(first, max(int(index[0]), int(index[-1])) + 1), index - first


class Attention:
    """Compute attention with the array module `xp`."""

    xp: Any = np

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
            near, row = relative.within(length)
            row = self.xp.asarray(row)[position[None, :] - position[:, None] + length - 1]
            if relative.keys is not None:
                to_position = qs @ per_head(relative.keys[near], heads)  # [s, heads, length, near]
                scores += to_position[:, :, position[:, None], row]
            if relative.queries is not None:
                from_position = ks @ per_head(relative.queries[near], heads)
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

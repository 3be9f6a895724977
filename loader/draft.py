"""A version while it is decided how its blocks are stored: whole tensors, and where blocks lie."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.cut import BUNDLE, Sheet, bundle_offsets, sheets, tile
from pageformer.loader.manifest import Grid, Manifest, TensorEntry
from pageformer.loader.similar import Similar
from pageformer.udfs.blocks import Array, widen

TABLE_SHARE = 30.0  # what a table of embeddings counts, in blocks of a linear map
Place = tuple[str, int, int]  # tensor, block row, block column


class Draft:
    """Hold a checkpoint's tensors in float32 and its blocks by name."""

    def __init__(self, checkpoint: Checkpoint, manifest: Manifest) -> None:
        self.manifest = manifest
        self.side = manifest.side
        self._sheets = {sheet.name: sheet for sheet in sheets(checkpoint.weights, self.side)}
        self._whole = {name: _float32(sheet) for name, sheet in self._sheets.items()}
        self._vectors = {
            name: (offset, checkpoint.weights[name].array.size)
            for name, offset in bundle_offsets(checkpoint.weights).items()
        }
        self.places: dict[bytes, list[Place]] = {}
        for name, entry in manifest.tensors.items():
            for i, row in enumerate(entry.grid or []):
                for j, block in enumerate(row):
                    self.places.setdefault(block, []).append((name, i, j))

    def block(self, name: bytes) -> Array:
        """Cut one block, in float32.  # [side, side]"""
        tensor, row, col = self.places[name][0]
        data = tile(self._sheets[tensor].array, row, col, self.side)
        return widen(data, self._sheets[tensor].form).reshape(self.side, self.side)

    def block_bytes(self, name: bytes) -> int:
        """Count the bytes of a block in its own format."""
        tensor, row, _ = self.places[name][0]
        return self._sheets[tensor].block_bytes(row, self.side)

    def tensor_size(self, name: bytes) -> int:
        """Count the elements of the tensor that a block is part of."""
        return int(self._sheets[self.places[name][0][0]].array.size)

    def padded_rows(self, tensor: str) -> int:
        """Count the rows of a tensor's blocks."""
        return len(self.manifest.tensors[tensor].grid or []) * self.side

    def tensors(self, replaced: Mapping[bytes, Array]) -> dict[str, Array]:
        """Return whole tensors by name, with some blocks replaced; the rest is not copied."""
        whole = dict(self._whole)
        for name, block in replaced.items():
            for tensor, row, col in self.places[name]:
                if whole[tensor] is self._whole[tensor]:
                    whole[tensor] = self._whole[tensor].copy()
                part = whole[tensor][row * self.side :, col * self.side :][: self.side, : self.side]
                part[:] = block[: part.shape[0], : part.shape[1]]
        bundle = whole.pop(BUNDLE).ravel() if BUNDLE in whole else np.zeros(0, np.float32)
        for vector, (offset, size) in self._vectors.items():
            whole[vector] = bundle[offset : offset + size]
        return whole

    def weights_of(self, name: bytes, weights: Mapping[str, Array]) -> Array:
        """Add up the weights of a block's rows in all its places.  # [side]"""
        total = np.zeros(self.side, np.float32)
        for tensor, row, _ in self.places[name]:
            total += weights[tensor][row * self.side : (row + 1) * self.side]
        return total

    def renamed(self, names: Mapping[bytes, bytes]) -> Manifest:
        """Return the manifest with some blocks under other names."""

        def rename(entry: TensorEntry) -> TensorEntry:
            if entry.grid is None:
                return entry
            grid: Grid = [[names.get(name, name) for name in row] for row in entry.grid]
            return replace(entry, grid=grid)

        tensors = {name: rename(entry) for name, entry in self.manifest.tensors.items()}
        return replace(self.manifest, tensors=tensors)


def row_weights(
    draft: Draft,
    blocks: Mapping[bytes, Array],
    similar: Mapping[bytes, Similar],
    usage: Mapping[str, Array],
) -> dict[str, Array]:
    """Return how much a squared error in each row of each tensor matters, rows padded to blocks.

    An error counts in parts of the tensor's own difference, a tensor by its number of blocks;
    tables count alike, each row as often as it is looked up. usage: look-ups per row of tables.
    """
    energy: dict[str, Array] = {}
    shares: dict[str, float] = {}
    for name in similar:
        difference = blocks[name] - similar[name].block
        squares = np.einsum("ij,ij->i", difference, difference)
        for tensor, row, _ in draft.places[name]:
            rows = energy.setdefault(tensor, np.zeros(draft.padded_rows(tensor), np.float32))
            rows[row * draft.side : (row + 1) * draft.side] += squares
            shares[tensor] = TABLE_SHARE if tensor in usage else shares.get(tensor, 0.0) + 1
    weights = {}
    for tensor, rows in energy.items():
        used = np.ones_like(rows)
        if tensor in usage:
            used[: len(usage[tensor])] = usage[tensor]
        total = max(float(used @ rows), 1e-30)
        weights[tensor] = used * np.float32(shares[tensor] / total)
    return weights


def _float32(sheet: Sheet) -> Array:
    if sheet.form == "f32":
        return np.asarray(sheet.array, np.float32)
    return widen(np.ascontiguousarray(sheet.array).tobytes(), sheet.form).reshape(sheet.array.shape)

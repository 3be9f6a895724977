"""A version while it is decided how its blocks are stored: whole tensors, and where blocks lie."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.cut import BUNDLE, Sheet, bundle_offsets, sheets, tile
from pageformer.loader.manifest import Grid, Manifest, TensorEntry
from pageformer.udfs.blocks import Array, widen

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
        return (
            self.side
            * self.side
            * (4 if self._sheets[self.places[name][0][0]].form == "f32" else 2)
        )

    def tensor_size(self, name: bytes) -> int:
        """Count the elements of the tensor that a block is part of."""
        return int(self._sheets[self.places[name][0][0]].array.size)

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

    def row_weights(self, name: bytes, weights: Mapping[str, Array]) -> Array:
        """Return how much an error in each row of a block matters, in all its places.  # [side]

        weights: of the rows of whole tensors. The bundle's errors count by its own size.
        """
        total = np.zeros(self.side, np.float32)
        for tensor, row, _ in self.places[name]:
            if tensor == BUNDLE:
                bundle = self._whole[BUNDLE]
                total += np.float32(1 / max(float(np.einsum("ij,ij->", bundle, bundle)), 1e-30))
                continue
            part = weights[tensor][row * self.side : (row + 1) * self.side]
            total[: len(part)] += part
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


def _float32(sheet: Sheet) -> Array:
    if sheet.form == "f32":
        return np.asarray(sheet.array, np.float32)
    return widen(np.ascontiguousarray(sheet.array).tobytes(), sheet.form).reshape(sheet.array.shape)

"""The manifest of a version: which blocks make which tensor, and the hash that names it all.

Made before anything is written, by cutting the checkpoint once and keeping names only.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pageformer.dedup.pages import Kind
from pageformer.loader.cut import (
    Sheet,
    Weight,
    bundle_form,
    bundle_offsets,
    choose_side,
    grid_shape,
    sheets,
)
from pageformer.udfs.blocks import block_hash
from pageformer.udfs.config import Config

Grid = list[list[bytes]]


@dataclass(frozen=True)
class TensorEntry:
    """Describe one tensor of a version: a grid of block names, or a place in the bundle."""

    shape: tuple[int, ...]
    grid: Grid | None = None
    offset: int | None = None

    def as_json(self) -> dict[str, object]:
        """Return what the version's hash covers."""
        if self.grid is None:
            return {"shape": list(self.shape), "offset": self.offset}
        grid = [[name.hex() for name in row] for row in self.grid]
        return {"shape": list(self.shape), "grid": grid}


@dataclass(frozen=True)
class Manifest:
    """Describe a version whole, without its bytes."""

    config: str
    tokenizer: bytes | None  # sha256
    side: int
    form: str  # 'mixed' where tensors differ
    parameters: int
    parameter_bytes: int
    tensors: Mapping[str, TensorEntry]

    @property
    def hash(self) -> bytes:
        """Return the version's hash: config, tokenizer, shapes and the name of every block."""
        content = {
            "config": json.loads(self.config),
            "tokenizer": self.tokenizer.hex() if self.tokenizer else None,
            "tensors": {name: entry.as_json() for name, entry in self.tensors.items()},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()

    def block_names(self) -> Iterator[bytes]:
        """Yield the name of every block, repeated where a block is."""
        for entry in self.tensors.values():
            for row in entry.grid or []:
                yield from row


def build(
    config: Config,
    tokenizer: bytes | None,
    weights: Mapping[str, Weight],
    advance: Callable[[int], None] = lambda count: None,
) -> Manifest:
    """Cut every tensor once and name its blocks.

    advance: told the bytes of each block when it has been named.
    """
    side = choose_side(weights)
    tensors = {
        sheet.name: TensorEntry(sheet.array.shape, _grid(sheet, side, advance))
        for sheet in sheets(weights, side)
    }
    for name, offset in bundle_offsets(weights).items():
        tensors[name] = TensorEntry(weights[name].shape, offset=offset)
    return Manifest(
        config=config.to_json(),
        tokenizer=hashlib.sha256(tokenizer).digest() if tokenizer is not None else None,
        side=side,
        form=_form(weights),
        parameters=sum(weight.array.size for weight in weights.values()),
        parameter_bytes=sum(weight.array.nbytes for weight in weights.values()),
        tensors=tensors,
    )


def cut_blocks(
    weights: Mapping[str, Weight], manifest: Manifest, wanted: set[bytes]
) -> Iterator[tuple[Kind, bytes, memoryview]]:
    """Cut the wanted blocks again, each once: its kind, its name and its bytes."""
    left = set(wanted)
    side = manifest.side
    for sheet in sheets(weights, side):
        for row, names in enumerate(manifest.tensors[sheet.name].grid or []):
            kind = Kind(sheet.form, sheet.block_rows(row, side), side)
            for col, name in enumerate(names):
                if name in left:
                    left.remove(name)
                    yield kind, name, sheet.tile(row, col, side)


def _grid(sheet: Sheet, side: int, advance: Callable[[int], None]) -> Grid:
    def name(row: int, col: int) -> bytes:
        data = sheet.tile(row, col, side)
        advance(len(data))
        return block_hash(sheet.form, sheet.block_rows(row, side), side, data)

    rows, cols = grid_shape(sheet.array.shape[0], sheet.array.shape[1], side)
    return [[name(row, col) for col in range(cols)] for row in range(rows)]


def _form(weights: Mapping[str, Weight]) -> str:
    large = [weight for weight in weights.values() if weight.array.ndim > 1]
    forms = {weight.form for weight in large}
    forms.add(bundle_form(weight for weight in weights.values() if weight.array.ndim == 1))
    return forms.pop() if len(forms) == 1 else "mixed"

"""The version that a task edits, read from its rows: config, shapes, and single tensors.

Edits that depend on what they edit (DoRA, IA3's bias, a pair of checkpoints) are folded with its
numbers. Nothing is kept but a few pages.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from psycopg import Connection, RawCursor
from psycopg.rows import dict_row

from pageformer.errors import InvalidCheckpoint, UnknownName
from pageformer.loader import checkpoint as checkpoints
from pageformer.loader import manifest as manifests
from pageformer.loader.checkpoint import weight_files
from pageformer.loader.modules import read_pipeline
from pageformer.loader.safetensors_file import FileTensor
from pageformer.loader.source import find_directory
from pageformer.udfs import named_queries
from pageformer.udfs.blocks import Array
from pageformer.udfs.config import Config
from pageformer.udfs.layout import BUNDLE, Place, TensorRow
from pageformer.udfs.page_cache import page_file
from pageformer.udfs.page_cache.page_file import Page
from pageformer.udfs.tasks.task import Shape
from pageformer.udfs.version import place_of, read_blocks, read_page

VERSION = named_queries.read("pageformer.udfs", "queries.sql")
OWN = named_queries.read("pageformer.loader.tasks", "queries.sql")
KEPT = 16  # pages

Rows = Callable[..., list[dict[str, Any]]]


class Base:
    """Read the version that `name` ('minilm', 'minilm@v2') means; raise UnknownName.

    source: the directory that it was loaded from, or another one with the same content.
    """

    def __init__(self, connection: Connection[Any], name: str, source: str | None = None) -> None:
        self._rows: Rows = partial(_rows, connection)
        self.name = name
        row = self._find(name)
        self.id: int = row["id"]
        self.model, self.label = row["model"], row["label"]
        self.config = Config.from_json(row["config"])
        self._hashes = {row["hash"], row["original_hash"]}
        self._source = source or row["source"]
        self._side: int = row["block_side"]
        self._page = lru_cache(KEPT)(self._read_page)

    def _find(self, name: str) -> dict[str, Any]:
        model, _, pin = name.partition("@")
        found = self._rows("find_version", model, pin)
        if len(found) != 1:
            known = ", ".join(row["name"] for row in self._rows("version_names")) or "none"
            problem = "is ambiguous" if found else "does not exist"
            raise UnknownName(f'the version "{name}" {problem}', hint=f"versions: {known}")
        return found[0]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Return the stored shape of every tensor, `[in, out]` of a linear weight."""
        return {name: tuple(row.shape) for name, row in self._tensors.items() if name != BUNDLE}

    def has(self, name: str) -> bool:
        """Tell whether the version has a tensor."""
        return name in self._tensors

    def tensor(self, name: str) -> Array:
        """Read one tensor in float32, as it is stored."""
        row = self._tensors[name]
        if row.bundle_offset is not None:
            start = row.bundle_offset
            return self._bundle[start : start + row.shape[0]]
        whole = np.block([[self._block(block) for block in blocks] for blocks in row.grid or ()])
        return whole[tuple(slice(length) for length in row.shape)]

    @cached_property
    def files(self) -> dict[str, FileTensor]:
        """Map the files that the version was loaded from, whole.

        Raises InvalidCheckpoint when they are gone or have other content by now.
        """
        checkpoint = checkpoints.read(self._source)
        built = manifests.build(checkpoint.config, checkpoint.tokenizer, checkpoint.weights)
        if built.hash not in self._hashes:
            raise InvalidCheckpoint(
                f"{self._source} does not hold what {self.model}@{self.label} was loaded from",
                hint="Name the directory that does by --base.",
            )
        path = find_directory(self._source)
        return weight_files(path if path.is_file() else read_pipeline(path).folder)

    @cached_property
    def _tensors(self) -> dict[str, TensorRow]:
        return {row["name"]: TensorRow(**row) for row in self._rows("tensors", self.id)}

    @cached_property
    def _places(self) -> dict[bytes, tuple[Place, str]]:
        return {
            row["block_hash"]: (place_of(row), row["format"])
            for row in self._rows("places", self.id)
        }

    @cached_property
    def _bundle(self) -> Array:
        return self.tensor(BUNDLE).ravel()

    def _block(self, name: bytes) -> Array:
        place, form = self._places[name]
        elements = self._page((place.page, form))[place.start :][: place.elements]
        return elements.reshape(-1, self._side)

    def _read_page(self, page: Page) -> Array:
        data = read_page(self._rows, page[0])
        stored = memoryview(page_file.content(page, data, partial(read_blocks, self._rows)))
        return np.frombuffer(page_file.floats(page, stored), np.float32)


def _rows(connection: Connection[Any], name: str, *arguments: object) -> list[dict[str, Any]]:
    query = OWN[name] if name in OWN else VERSION[name]
    with RawCursor(connection, row_factory=dict_row) as cursor:
        return cursor.execute(query.encode(), arguments, binary=True).fetchall()

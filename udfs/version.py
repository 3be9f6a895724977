"""A version, read from its rows and ready to run, in a backend or in any other process.

Nothing here knows how rows are fetched: `rows` runs a query of queries.sql, through SPI inside the
server and through a connection outside of it.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, partial
from math import inf
from typing import TYPE_CHECKING, Any

from pageformer.errors import DamagedPage, NotBuilt
from pageformer.udfs import arrival, backends, threads
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Layers, LocalEncoder
from pageformer.udfs.layout import Layout, Place, TensorRow
from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.page_file import Page
from pageformer.udfs.page_cache.page_files import NoRoom
from pageformer.udfs.tokenizer import Tokenizer

if TYPE_CHECKING:  # NumPy, which the compiled path does without
    from pageformer.udfs.blocks import Array
    from pageformer.udfs.model import Model
    from pageformer.udfs.tasks.opening import OpenTask

AsOwner = Callable[[Callable[[], Any]], Any]
RETRY_SECONDS = 1.0  # a version that others left no room for is opened again after that
Rows = Callable[..., list[dict[str, Any]]]  # the name of a query, its arguments -> its rows


class Version:
    """Keep one version ready: config, tokenizer, mapped pages, tensors.

    id: of its row in pageformer.version. backend, compute: as `backends.encoder` takes them.
    as_owner: runs what reads pages later on, when the version does not fit into the cache and its
    layers are opened one after another.
    """

    def __init__(
        self,
        rows: Rows,
        id: int,
        cache: PageCache,
        backend: str,
        compute: str,
        as_owner: AsOwner = lambda work: work(),
    ) -> None:
        self.cache = cache
        self._as_owner = as_owner
        [row] = rows("version", id)
        self.hash: bytes = row["hash"]
        self.config = Config.from_json(row["config"])
        self._rows = rows
        self._tokenizer_hash: bytes | None = row["tokenizer_hash"]
        places = rows("places", id)
        placed = {row["block_hash"]: place_of(row) for row in places}
        tensors = [TensorRow(**tensor) for tensor in rows("tensors", id)]
        arrival.check(row, tensors, placed)
        self.pages = sorted({(row["page_hash"], row["format"]) for row in places})
        cache.belong(self.hash, "pages", self.pages)
        cache.request(self.hash)
        self.tasks: OrderedDict[bytes, OpenTask] = OrderedDict()  # by hash
        self._made: list[Page] = []
        self._made_views: list[memoryview] = []
        self._held: list[Page] = []
        self._views: list[memoryview] = []
        self._sound_in: tuple[int, int] | None = None  # the cache's state when pages were sound
        self._until = inf  # when it is worth a try to open it otherwise
        self._hold(page_bytes(placed.values()), compute)
        backends.prepare(backend, cache.shared_memory)
        self._backend, self.compute = backend, compute
        self._layout = Layout(
            self.config,
            row["block_side"],
            tensors,
            placed,
            {hash: view for (hash, _), view in zip(self._held, self._views, strict=True)},
            None if self._held else self._borrow,
        )

    def _hold(self, bytes: int, compute: str) -> None:
        """Map all pages, if they fit into the cache together, with what may be made of them."""
        if not self.cache.fits(bytes if compute == "float32" else bytes * 3 // 2):
            return
        try:
            self._views = self.cache.open(self.pages, self.hash)
            self._held = self.pages
        except NoRoom:  # others hold what they use; a little later they may not
            self._until = time.monotonic() + RETRY_SECONDS

    def _borrow(self, hashes: AbstractSet[bytes]) -> dict[bytes, memoryview]:
        """Open pages for as long as somebody has their views."""
        pages = [page for page in self.pages if page[0] in hashes]
        views = self._as_owner(lambda: self.cache.borrow(pages, self.hash))
        return {hash: view for (hash, _), view in zip(pages, views, strict=True)}

    @cached_property
    def encoder(self) -> LocalEncoder:
        """Return what turns token ids into vectors."""
        encoder = backends.encoder(self._backend, self._layout, self.compute, self._share)
        if self._made:
            self.cache.belong(self.hash, "made", self._made)
        return encoder

    def _share(self, form: str, digest: bytes, make: Callable[[], bytes]) -> memoryview:
        """Keep what the backend makes of blocks where all connections find it."""
        view = self.cache.open_made((digest, form), make)
        self._made.append((digest, form))
        self._made_views.append(view)
        return view

    @cached_property
    def layers(self) -> Layers:
        """Return what runs the layers alone, always in float32."""
        return backends.layers(self._backend, self._layout)

    @cached_property
    def model(self) -> "Model":
        """Return the version as arrays of its backend."""
        return backends.model(self._backend, self._layout)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer.

        Raises NotBuilt for a model that takes images or tensors, not text.
        """
        if self.config.image:
            raise NotBuilt(
                "this model has no tokenizer: it encodes images, not text",
                hint="call pageformer.encode_image(image, model)",
            )
        if self._tokenizer_hash is None:
            raise NotBuilt(
                "this model has no tokenizer: it encodes tensors, not text",
                hint="call pageformer.encode_tensor(tensor, model)",
            )
        read = partial(self._read_tokenizer, self._tokenizer_hash)
        share = partial(self._share_words, self._tokenizer_hash)
        plain = backends.plain_text(self._backend, share) if self._held else None
        return Tokenizer(read, self.config.max_length, plain, self.cache.pulse)

    def _read_tokenizer(self, hash: bytes) -> bytes:
        data: bytes = self._as_owner(lambda: read_tokenizer(self._rows, hash))
        return data

    def _share_words(self, hash: bytes, form: str, make: Callable[[bytes], bytes]) -> memoryview:
        """Keep what is made of a tokenizer where all connections find it."""
        view = self.cache.open_made((hash, form), lambda: make(self._read_tokenizer(hash)))
        self._made.append((hash, form))
        self._made_views.append(view)
        self.cache.belong(self.hash, "words", [(hash, form)])
        return view.cast("B")

    @property
    def page_bytes(self) -> int:
        """Count the bytes of memory that its pages are mapped to."""
        return sum(view.nbytes for view in [*self._views, *self._made_views])

    @property
    def mapped(self) -> int:
        """Count the pages that are mapped: all of them, or none of a version that is streamed."""
        return len(self._held)

    def is_sound(self) -> bool:
        """Tell whether the mapped pages are still what they were; False: open the version again."""
        state = self.cache.state()
        if state is None or state != self._sound_in:
            pages, views = [*self._held, *self._made], [*self._views, *self._made_views]
            if not self.cache.still_sound(pages, views):
                return False
            self._sound_in = state
        return time.monotonic() < self._until

    def request(self) -> None:
        """Count that a statement wants this version, which is ready."""
        self.cache.request(self.hash, len(self._held))

    def close(self) -> None:
        """Let go of the mapped pages."""
        for task in self.tasks.values():
            self.cache.close(task.pages)
        self.tasks.clear()
        for name in ("encoder", "tokenizer", "layers", "model", "_layout", "_views", "_made_views"):
            self.__dict__.pop(name, None)
        self.cache.close([*self._held, *self._made])


def place_of(row: Mapping[str, Any]) -> Place:
    """Return where a block lies, from a row of the query `places`."""
    return Place(row["page_hash"], row["start"], row["elements"])


def page_bytes(places: Iterable[Place]) -> int:
    """Count the bytes of a version's pages in float32, up to the last block of each."""
    ends: dict[bytes, int] = {}
    for page, start, elements in places:
        ends[page] = max(ends.get(page, 0), start + elements)
    return sum(ends.values()) * 4


def read_page(rows: Rows, page: bytes) -> bytes:
    """Read a page's bytes from its table."""
    found = rows("page", page)
    if not found:
        raise DamagedPage(
            f"page {page.hex()} is missing from its table",
            hint="restore it from a backup, or drop the version and load it again",
        )
    data: bytes = found[0]["data"]
    return data


def read_tokenizer(rows: Rows, hash: bytes) -> bytes:
    """Read a tokenizer.json from its table."""
    [row] = rows("tokenizer", hash)
    data: bytes = row["data"]
    return data


def read_blocks(rows: Rows, names: Sequence[bytes]) -> "dict[bytes, Array]":
    """Read blocks from their pages' table, in float32.

    Raises DamagedPage for one that is not there, or whose bytes its name does not fit.
    """
    with threads.kept_out():
        from pageformer.udfs.blocks import block_hash, widen
    found = {}
    for row in rows("blocks", list(set(names))):
        shape = row["block_rows"], row["block_cols"]
        if block_hash(row["format"], *shape, row["data"]) == row["block_hash"]:
            found[row["block_hash"]] = widen(row["data"], row["format"]).reshape(shape)
    if missing := set(names) - found.keys():
        raise DamagedPage(
            f"{len(missing)} blocks that others are stored as differences to are missing or "
            f"damaged, {min(missing).hex()} among them",
            hint="restore table pageformer.page from a backup, or drop the version and load it "
            "again",
        )
    return found

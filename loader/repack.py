"""Pack all stored blocks anew, so that a version reads few bytes that it does not use.

One transaction: readers go on with the pages of their snapshot, and a pack that is killed has
changed nothing. Loads and drops wait.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from psycopg import Connection, RawCursor

from pageformer.dedup.classes import classes_of
from pageformer.dedup.delta_pages import pack_differences
from pageformer.dedup.packing import pack_pages
from pageformer.dedup.pages import PAGE_BYTES, Kind, Page
from pageformer.udfs import named_queries
from pageformer.udfs.delta import FORM, DeltaPage

QUERIES = named_queries.read("pageformer.loader", "packing.sql")
ELEMENT_BYTES = {"f32": 4, "f16": 2, "bf16": 2}
Progress = Callable[[int, int], None]  # pages written, pages in all


@dataclass(frozen=True)
class Packed:
    """Tell what packing did or would do; read bytes are summed over all versions."""

    pages_before: int
    pages_after: int
    bytes_before: int
    bytes_after: int
    read_before: int
    read_after: int
    written: bool

    def __str__(self) -> str:
        did = "packed" if self.written else "would pack"
        return (
            f"{did} {self.pages_before:,} pages into {self.pages_after:,}; "
            f"{self.bytes_before:,} bytes into {self.bytes_after:,}; opening every version once "
            f"reads {self.read_after:,} bytes, now {self.read_before:,}"
        )


def repack(
    connection: Connection[Any],
    *,
    method: str = "two-stage",
    dry_run: bool = False,
    progress: Progress = lambda done, total: None,
) -> Packed:
    """Pack every stored block into new pages by which versions use it.

    method: as in `pack_pages`. dry_run: only tell what it would gain. Raises InvalidInput for an
    unknown method.
    """
    with connection.transaction(), RawCursor(connection) as cursor:
        cursor.execute(QUERIES["lock"])
        store = _Store(cursor)
        layout = list(store.layout(method))
        packed = store.compare(layout, written=not dry_run)
        if not dry_run:
            store.write(layout, progress)
    return packed


@dataclass(frozen=True)
class _NewPage:
    kind: Kind
    blocks: tuple[bytes, ...]
    size: int


class _Store:
    """Hold where every block lies now, and who uses it."""

    def __init__(self, cursor: RawCursor[tuple[Any, ...]]) -> None:
        self._cursor = cursor
        self.versions: dict[int, dict[bytes, None]] = {}  # ordered as the tensors are
        for version, grid in cursor.execute(QUERIES["grids"], binary=True).fetchall():
            names = dict.fromkeys(name for row in grid for name in row)
            self.versions.setdefault(version, {}).update(names)
        self.places: dict[bytes, list[tuple[bytes, int]]] = {}
        self.kinds: dict[bytes, Kind] = {}
        for name, page, slot, *kind in cursor.execute(
            QUERIES["placements"], binary=True
        ).fetchall():
            self.places.setdefault(name, []).append((page, slot))
            self.kinds[name] = Kind(*kind)
        self.sizes: dict[bytes, int] = dict(
            cursor.execute(QUERIES["page_sizes"], binary=True).fetchall()
        )

    def layout(self, method: str) -> Iterator[_NewPage]:
        """Yield the new pages: those of plain blocks by `method`, differences class by class."""
        for kind in sorted(set(self.kinds.values())):
            numbers, users = self._users(kind)
            names = list(numbers)
            if kind.form == FORM:
                for members in classes_of(users).values():
                    chosen = [names[i] for i in cast(list[int], members)]
                    yield from self._differences(kind, chosen)
                continue
            block_bytes = kind.rows * kind.cols * ELEMENT_BYTES[kind.form]
            for page in pack_pages(users, max(PAGE_BYTES // block_bytes, 1), method):
                slots = sorted(cast(frozenset[int], page))
                yield _NewPage(kind, tuple(names[i] for i in slots), len(page) * block_bytes)

    def _users(self, kind: Kind) -> tuple[dict[bytes, int], dict[int, set[int]]]:
        """Number the blocks of a kind as the versions have them, and list each version's.

        Blocks that only differences stand on have no version: they are packed as if they had one.
        """
        numbers: dict[bytes, int] = {}
        users: dict[int, set[int]] = {}
        for version, names in self.versions.items():
            for name in names:
                if self.kinds[name] == kind:
                    users.setdefault(version, set()).add(numbers.setdefault(name, len(numbers)))
        for name, its_kind in self.kinds.items():
            if its_kind == kind and name not in numbers:
                users.setdefault(0, set()).add(numbers.setdefault(name, len(numbers)))
        return numbers, users

    def _differences(self, kind: Kind, names: list[bytes]) -> Iterator[_NewPage]:
        for page in pack_differences(kind.rows, (self._record(name) for name in names)):
            yield _NewPage(kind, page.block_hashes, len(page.data))

    def _record(self, name: bytes) -> tuple[bytes, bytes]:
        page, slot = self.places[name][0]
        differences = self._delta_page(page)
        return differences.bases[slot], bytes(list(differences.records())[slot])

    def _delta_page(self, page: bytes) -> DeltaPage:
        return DeltaPage(self._data(page))

    def _data(self, page: bytes) -> bytes:
        """Read a page; the one that was read last is kept."""
        if getattr(self, "_last", (None, b""))[0] != page:
            row = self._cursor.execute(QUERIES["page"], [page], binary=True).fetchone()
            self._last = page, row[0] if row else b""
        return self._last[1]

    def compare(self, layout: list[_NewPage], *, written: bool) -> Packed:
        """Count pages, bytes, and the bytes that opening each version reads, before and after."""
        before = {name: [page for page, _ in places] for name, places in self.places.items()}
        after: dict[bytes, list[int]] = {}
        for number, page in enumerate(layout):
            for name in page.blocks:
                after.setdefault(name, []).append(number)
        new_sizes = {number: page.size for number, page in enumerate(layout)}
        return Packed(
            len(self.sizes),
            len(layout),
            sum(self.sizes.values()),
            sum(new_sizes.values()),
            sum(_read(names, before, self.sizes) for names in self.versions.values()),
            sum(_read(names, after, new_sizes) for names in self.versions.values()),
            written,
        )

    def write(self, layout: list[_NewPage], progress: Progress) -> None:
        """Write the pages that are not there, then the placements; take the old ones away."""
        kept: set[bytes] = set()
        placements: list[tuple[bytes, bytes, int]] = []
        for done, new in enumerate(layout, start=1):
            page = self._page(new)
            placements.extend((name, page.hash, i) for i, name in enumerate(page.block_hashes))
            if page.hash not in self.sizes and page.hash not in kept:
                row = [page.hash, *page.kind, page.data]
                self._cursor.execute(QUERIES["insert_page"], row)
            kept.add(page.hash)
            progress(done, len(layout))
        self._cursor.execute(QUERIES["clear_placements"], [list(self.sizes)])
        self._cursor.executemany(QUERIES["insert_placement"], placements)
        self._cursor.execute(QUERIES["delete_pages"], [list(self.sizes.keys() - kept)])

    def _page(self, new: _NewPage) -> Page:
        if new.kind.form == FORM:
            [page] = pack_differences(new.kind.rows, (self._record(name) for name in new.blocks))
            return page
        size = new.size // len(new.blocks)
        return Page(new.kind, b"".join(self._plain(name, size) for name in new.blocks), new.blocks)

    def _plain(self, name: bytes, size: int) -> bytes:
        page, slot = self.places[name][0]
        return self._data(page)[slot * size : (slot + 1) * size]


def _read(names: Iterable[bytes], pages: dict[bytes, list[Any]], sizes: dict[Any, int]) -> int:
    """Count the bytes of the pages that a version opens: for each block, one that has most."""
    uses: dict[Any, int] = {}
    listed = list(names)
    for name in listed:
        for page in pages[name]:
            uses[page] = uses.get(page, 0) + 1
    opened = {max(pages[name], key=lambda page: (uses[page], str(page))) for name in listed}
    return sum(sizes[page] for page in opened)

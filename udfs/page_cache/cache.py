"""Pages in memory once for all connections: files in a private folder, mapped read-only by each.

A page is read from its table by one process, checked against its hash, and written to a file; the
others map that file. Nothing here knows a database: how to read a page is passed in, and so is
`pulse`, called wherever time passes, which raises when the query was cancelled.
"""

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from errno import EMFILE
from typing import NamedTuple

from pageformer.errors import DamagedPage
from pageformer.udfs.page_cache.mapping import FileLimit, Mapping
from pageformer.udfs.page_cache.page_file import Page, ReadBlocks, file_name, no_blocks
from pageformer.udfs.page_cache.page_files import Make, NoRoom, PageFiles
from pageformer.udfs.page_cache.private_folder import PrivateFolder
from pageformer.udfs.page_cache.room import Room
from pageformer.udfs.page_cache.usage import Counts
from pageformer.udfs.page_cache.watch import Start

FRESH_SECONDS = 0.005  # a mapping that was looked at this recently is not looked at again


class CacheUse(NamedTuple):
    """Tell what was counted for versions, in pages, and what the cache holds of them."""

    hits: int
    misses: int
    evictions: int
    pages: int
    bytes: int


class PageCache:
    """Open pages as read-only float32 views that all connections of a cluster share.

    read_page: hash -> the page's bytes. read_blocks: names -> the blocks, in float32, that a page
    of differences is based on. warn: told once when the folder takes no more files and
    pages go to this process's own memory. limit: bytes of pages in the folder; None: as many as it
    takes. policy: what goes first (see eviction.py). spare: gives up something that this process
    holds and does not need; False: there is nothing. watch: begins to be told of changes in a
    folder; None: files are looked at instead.
    """

    def __init__(
        self,
        folder_parent: str,
        data_directory: str,
        read_page: Callable[[bytes], bytes],
        pulse: Callable[[], None],
        warn: Callable[[str], None],
        read_blocks: ReadBlocks = no_blocks,
        limit: int | None = None,
        policy: str = "sharing",
        spare: Callable[[], bool] = lambda: False,
        watch: Start | None = None,
    ) -> None:
        cluster = hashlib.sha256(os.path.realpath(data_directory).encode()).hexdigest()[:16]
        self.folder = PrivateFolder(
            os.path.join(folder_parent, f"pageformer-{os.geteuid()}-{cluster}"), watch
        )
        self.room = Room(self.folder, limit, policy, pulse)
        self._files = PageFiles(self.folder, self.room, read_page, read_blocks, pulse, warn)
        self.pulse = pulse
        self._spare = spare
        self._mapped: dict[Page, Mapping] = {}
        self._given_up = 0  # how many times mappings were, that somebody held
        self._descriptors = FileLimit()
        self.room.trim()

    def fits(self, bytes: int) -> bool:
        """Tell whether so much fits into the cache at once, when nothing else is in use."""
        return self.room.limit is None or bytes <= self.room.limit

    def belong(self, version: bytes, kind: str, pages: Sequence[Page]) -> None:
        """Note that a version is made of these pages; they are worth what it is."""
        self.room.belong(version, kind, [file_name(page) for page in pages])

    def request(self, version: bytes, hits: int = 0) -> None:
        """Count a request for a version, so many of whose pages are open already."""
        self.room.usage.count(version, Counts(hits), request=True)

    def open(self, pages: Sequence[Page], version: bytes | None = None) -> list[memoryview]:
        """Map pages, filling the cache with those that are missing, and hold them until `close`.

        version: its hash; hits and misses are counted for it. Returns one view per page,
        `[elements]` of float32, in order. Raises DamagedPage when a
        page's bytes differ from its hash, in the table or in the cache, ServerUnready when the
        cache folder is not ours, and NoRoom when the limit leaves no room beside pages in use.
        """
        made = self._files.made
        while True:
            try:
                views = self._open(pages)
                break
            except NoRoom:
                if not self._spare():
                    self.room.ask_back()
                    raise
        self._count(version, len(pages), self._files.made - made)
        return views

    def borrow(self, pages: Sequence[Page], version: bytes | None = None) -> list[memoryview]:
        """Map pages for as long as the views live that are returned, and hold none of them.

        What is worth less than all that would have to go for it is read into memory of this
        process's own.
        """
        made = self._files.made
        self._descriptors.make_room(len(self._mapped) + len(pages))
        views = [(self._mapped.get(p) or self._bring(p, must=False)).floats for p in pages]
        self._count(version, len(pages), self._files.made - made)
        return views

    def open_made(self, page: Page, make: Make) -> memoryview:
        """Map what a backend makes for itself, made by the first process that wants it.

        page: the sha256 of what it is made of, and a form of the backend's own. Hold it, check it
        and close it like any page. Without room for all, it is in this process's own memory.
        """
        try:
            return self._hold(page, make).floats
        except NoRoom:
            mapping = self._mapped[page] = self._bring(page, must=False, make=make)
            mapping.holders += 1
            return mapping.floats

    def close(self, pages: Sequence[Page]) -> None:
        """Give up pages that `open` returned; one that nobody holds is unmapped with its last view.

        A page that is not open any more (see `still_sound`) is passed over.
        """
        for page in pages:
            mapping = self._mapped.get(page)
            if mapping is None:
                continue
            mapping.holders -= 1
            if mapping.holders <= 0:
                del self._mapped[page]

    def state(self) -> tuple[int, int] | None:
        """Return what is another as soon as `still_sound` may be; None: nobody can tell."""
        changes = self.folder.watch.count()
        return None if changes is None else (changes, self._given_up)

    def still_sound(self, pages: Sequence[Page], views: Sequence[memoryview]) -> bool:
        """Tell whether open pages may still be computed with; False: close them and open again.

        Costs one `stat` per page, or a comparison when that was done within 5 ms. Files that are
        gone or were replaced give False. Raises DamagedPage when one was changed under its mapping;
        all mappings of this process are given up then, so that the next call gives False and the
        repeated query heals itself.
        """
        now = time.monotonic()
        for page, view in zip(pages, views, strict=True):
            mapping = self._mapped.get(page)
            if mapping is None or mapping.floats is not view:
                return False
            if now - mapping.checked_at < FRESH_SECONDS:
                continue
            try:
                there = self._files.still_there(mapping)
            except DamagedPage:
                self._give_up()
                raise
            if not there:
                del self._mapped[page]
                return False
            mapping.checked_at = now
        return True

    def check(self, pages: Sequence[Page]) -> int:
        """Hash what the cache holds of these pages, in files and in this process; count them.

        Raises DamagedPage naming every damaged page; their files are removed.
        """
        found = {page: self._is_sound(page) for page in pages}
        damaged = [page for page, sound in found.items() if sound is False]
        if damaged:
            self._give_up()
            raise self._files.damaged(damaged)
        return sum(sound is not None for sound in found.values())

    def shared_memory(self, name: str, size: int) -> mmap.mmap:
        """Map memory that the processes of a cluster share; of this one alone where none can be."""
        return self.folder.shared_memory(name, size)[0]

    def use(self, versions: Sequence[bytes]) -> CacheUse:
        """Tell how often pages of these versions were found, and what is held of them now."""
        self.folder.ensure()
        counts = [Counts(), *map(self.room.usage.counts, versions)]
        wanted = {*versions}
        sizes = [f.held.bytes for f in self.room.inventory.files() if wanted & f.versions]
        hits, misses, evictions = map(sum, zip(*counts, strict=True))
        return CacheUse(hits, misses, evictions, len(sizes), sum(sizes))

    # -- opening ----------------------------------------------------------------------------------

    def _open(self, pages: Sequence[Page]) -> list[memoryview]:
        opened: list[Page] = []
        views = []
        try:
            for page in pages:
                views.append(self._hold(page).floats)
                opened.append(page)
        except BaseException:
            self.close(opened)
            raise
        return views

    def _hold(self, page: Page, make: Make | None = None) -> Mapping:
        mapping = self._mapped.get(page)
        if mapping is None:
            self._descriptors.make_room(len(self._mapped) + 1)
            mapping = self._mapped[page] = self._bring(page, must=True, make=make)
        mapping.holders += 1
        return mapping

    def _bring(self, page: Page, must: bool, make: Make | None = None) -> Mapping:
        try:
            return self._files.bring(page, must, make)
        except DamagedPage:
            self._give_up()
            raise
        except OSError as error:
            if error.errno != EMFILE:
                raise
            raise self._descriptors.exhausted(self._mapped) from error

    def _give_up(self) -> None:
        self._mapped.clear()
        self._given_up += 1

    def _is_sound(self, page: Page) -> bool | None:
        """Hash all that the cache holds of a page; None: it holds nothing."""
        self.pulse()
        try:
            copies = list(self._files.copies(page, self._mapped.get(page)))
        except DamagedPage:
            return False
        return all(mapping.is_sound() for mapping in copies) if copies else None

    def _count(self, version: bytes | None, pages: int, made: int) -> None:
        self._files.rest()
        if version is not None:
            self.room.usage.count(version, Counts(pages - made, made))

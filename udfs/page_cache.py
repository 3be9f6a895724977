"""Pages in memory once for all connections: files in a private folder, mapped read-only by each.

A page is read from its table by one process, checked against its hash, and written to a file; the
others map that file. Nothing here knows a database: how to read a page is passed in, and so is
`pulse`, called wherever time passes, which raises when the query was cancelled.
"""

import errno
import hashlib
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence

from pageformer.errors import DamagedPage
from pageformer.udfs.mapping import FileLimit, Mapping, copy_to_memory, map_file
from pageformer.udfs.page_file import (
    Buffer,
    Page,
    ReadBlocks,
    content,
    file_name,
    no_blocks,
    seal,
    with_checksum,
)
from pageformer.udfs.private_folder import UNWRITABLE, PrivateFolder

RETRY_SECONDS = 0.002  # another process is filling the page: about a megabyte's worth of reading
FRESH_SECONDS = 0.005  # a mapping that was looked at this recently is not looked at again


class PageCache:
    """Open pages as read-only float32 views that all connections of a cluster share.

    read_page: hash -> the page's bytes. read_blocks: names -> the blocks, in float32, that a page
    of differences is based on. warn: told once when the folder takes no more files and
    pages go to this process's own memory.
    """

    def __init__(
        self,
        folder_parent: str,
        data_directory: str,
        read_page: Callable[[bytes], bytes],
        pulse: Callable[[], None],
        warn: Callable[[str], None],
        read_blocks: ReadBlocks = no_blocks,
    ) -> None:
        cluster = hashlib.sha256(os.path.realpath(data_directory).encode()).hexdigest()[:16]
        self.folder = PrivateFolder(
            os.path.join(folder_parent, f"pageformer-{os.geteuid()}-{cluster}")
        )
        self._read_page = read_page
        self._read_blocks = read_blocks
        self._pulse = pulse
        self._warn = warn
        self._warned = False
        self._mapped: dict[Page, Mapping] = {}
        self._makers: dict[Page, Callable[[], bytes]] = {}
        self._limit = FileLimit()

    def open(self, pages: Sequence[Page]) -> list[memoryview]:
        """Map pages, filling the cache with those that are missing, and hold them until `close`.

        Returns one view per page, `[elements]` of float32, in order. Raises DamagedPage when a
        page's bytes differ from its hash, in the table or in the cache, and ServerUnready when the
        cache folder is not ours.
        """
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

    def open_made(self, page: Page, make: Callable[[], bytes]) -> memoryview:
        """Map what a backend makes for itself, made by the first process that wants it.

        page: the sha256 of what it is made of, and a form of the backend's own. Hold it, check it
        and close it like any page.
        """
        self._makers[page] = make
        try:
            return self.open([page])[0]
        finally:
            del self._makers[page]

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
            if not self._still_there(mapping):
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
            raise self._damaged(damaged)
        return sum(sound is not None for sound in found.values())

    def shared_memory(self, name: str, size: int) -> mmap.mmap:
        """Map memory that the processes of a cluster share; of this one alone where none can be."""
        try:
            self.folder.ensure()
            return self.folder.map_shared(name, size)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return mmap.mmap(-1, size)

    # -- opening ----------------------------------------------------------------------------------

    def _hold(self, page: Page) -> Mapping:
        mapping = self._mapped.get(page)
        if mapping is None:
            self._limit.make_room(len(self._mapped) + 1)
            mapping = self._mapped[page] = self._bring(page)
        mapping.holders += 1
        return mapping

    def _bring(self, page: Page) -> Mapping:
        try:
            return self._share(page)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise self._limit.exhausted(self._mapped) from error
            if error.errno not in UNWRITABLE:
                raise
            self._tell_private(error)
        return copy_to_memory(page, self._content(page))

    def _share(self, page: Page) -> Mapping:
        """Map the page's file, or write it first; where another process does, wait for that."""
        number = int.from_bytes(page[0][:7], "big")
        while True:
            self.folder.ensure()
            try:
                mapping = self._map(page)
                if mapping is not None:
                    return mapping
                with self.folder.lock(number) as held:
                    if held:
                        return self._map(page) or self._fill(page)
            except FileNotFoundError:  # the folder vanished meanwhile
                self._pulse()
                continue
            self._pulse()
            time.sleep(RETRY_SECONDS)

    def _content(self, page: Page) -> Buffer:
        if page in self._makers:
            return with_checksum(self._makers[page]())
        return content(page, self._read_page(page[0]), self._read_blocks)

    def _fill(self, page: Page) -> Mapping:
        self._pulse()
        data = self._content(page)
        try:
            self.folder.write(file_name(page), data, seal(page, len(data)))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            self._tell_private(error)
            return copy_to_memory(page, data)
        mapping = self._map(page)
        if mapping is None:
            raise FileNotFoundError(errno.ENOENT, "deleted as soon as written", file_name(page))
        return mapping

    def _map(self, page: Page) -> Mapping | None:
        """Map the page's file if it is there, hashing it only when its seal is broken."""
        mapping = self._map_unchecked(page)
        if mapping is not None and mapping.file and not mapping.is_sealed(mapping.file):
            self._audit(mapping)
        return mapping

    def _map_unchecked(self, page: Page) -> Mapping | None:
        try:
            descriptor = self.folder.open(file_name(page))
        except FileNotFoundError:
            return None
        try:
            file = os.fstat(descriptor)
            if file.st_size % 4 or not file.st_size:  # cut short: not even floats
                raise self._damaged([page])
            return map_file(page, descriptor, file)
        finally:
            os.close(descriptor)

    # -- damage -----------------------------------------------------------------------------------

    def _still_there(self, mapping: Mapping) -> bool:
        """Tell whether a mapping's file still has its name; hash it when it was written to."""
        if mapping.file is None:
            return True
        try:
            now = self.folder.stat(mapping.name)
        except FileNotFoundError:
            return False
        if not mapping.is_of(now):
            return False
        if not mapping.is_sealed(now):
            self._audit(mapping)
        return True

    def _audit(self, mapping: Mapping) -> None:
        """Hash a mapping whose seal is broken; seal it again when it is sound after all."""
        self._pulse()
        if not mapping.is_sound():
            raise self._damaged([mapping.page])
        try:
            if mapping.is_of(self.folder.stat(mapping.name)):
                self.folder.stamp(mapping.name, mapping.seal)
        except FileNotFoundError:  # deleted meanwhile: there is nothing to seal
            return

    def _is_sound(self, page: Page) -> bool | None:
        """Hash all that the cache holds of a page; None: it holds nothing."""
        self._pulse()
        try:
            copies = list(self._copies(page))
        except DamagedPage:
            return False
        return all(mapping.is_sound() for mapping in copies) if copies else None

    def _copies(self, page: Page) -> Iterator[Mapping]:
        """Yield the mapping that this process has of a page, and its file where that is another."""
        held = self._mapped.get(page)
        if held is not None:
            yield held
        try:
            self.folder.ensure()
            stored = self._map_unchecked(page)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return  # no folder, no file
        if stored is not None and not (held and stored.file and held.is_of(stored.file)):
            yield stored

    def _damaged(self, pages: Sequence[Page]) -> DamagedPage:
        """Remove damaged files, give up every mapping, and describe what happened."""
        for page in pages:
            self.folder.remove(file_name(page))
        self._mapped.clear()
        were = "pages" if len(pages) > 1 else "page"
        return DamagedPage(
            f"damaged in the page cache {self.folder.path}: {were} "
            + ", ".join(digest.hex() for digest, _ in pages),
            hint="the damaged files were removed: repeat the query, which reads the table again; "
            "if it happens again, suspect the machine's memory",
        )

    # -- private memory ---------------------------------------------------------------------------

    def _tell_private(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        self._warn(
            f"the page cache folder {self.folder.path} takes no more pages "
            f"({os.strerror(error.errno or 0)}): this connection keeps them in memory of its own"
        )

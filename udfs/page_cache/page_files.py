"""Page files that all processes share: mapped where they are, made by one where they are not."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence

from pageformer.errors import DamagedPage
from pageformer.udfs.page_cache.mapping import Mapping, copy_to_memory, map_file
from pageformer.udfs.page_cache.page_file import (
    Buffer,
    Page,
    ReadBlocks,
    content,
    file_name,
    seal,
    with_checksum,
)
from pageformer.udfs.page_cache.private_folder import FULL, UNWRITABLE, PrivateFolder
from pageformer.udfs.page_cache.room import Room

RETRY_SECONDS = 0.002  # another process is filling the page: about a megabyte's worth of reading

Make = Callable[[], bytes]  # what a backend derives


class NoRoom(Exception):
    """All pages that the limit leaves room for are in use."""


class PageFiles:
    """Map pages from files of a folder, making those that are missing."""

    def __init__(
        self,
        folder: PrivateFolder,
        room: Room,
        read_page: Callable[[bytes], bytes],
        read_blocks: ReadBlocks,
        pulse: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._room = room
        self._read_page = read_page
        self._read_blocks = read_blocks
        self._pulse = pulse
        self._warn = warn
        self._warned = False
        self._last: Buffer = b""
        self.made = 0  # counts the pages that were not there

    def bring(self, page: Page, must: bool, make: Make | None = None) -> Mapping:
        """Map a page's file, making it where it is missing.

        make: makes what a backend derives; pages are read from their table.
        must: raise NoRoom when it would have to go into this process's own memory for want of room.
        Without, it goes there too when all that is in its place is worth more.
        """
        try:
            return self._share(page, must, make)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            self._tell_private(error)
        return copy_to_memory(page, self._content(page, make))

    def rest(self) -> None:
        """Give back memory: no more pages are filled for now."""
        self._last = b""

    def still_there(self, mapping: Mapping) -> bool:
        """Tell whether a mapping's file still has its name; hash it when it was written to."""
        if mapping.file is None:
            return True
        try:
            now = self._folder.stat(mapping.name)
        except FileNotFoundError:
            return False
        if not mapping.is_of(now):
            return False
        if not mapping.is_sealed(now):
            self.audit(mapping)
        return True

    def audit(self, mapping: Mapping) -> None:
        """Hash a mapping whose seal is broken; seal it again when it is sound after all."""
        self._pulse()
        if not mapping.is_sound():
            raise self.damaged([mapping.page])
        try:
            if mapping.is_of(self._folder.stat(mapping.name)):
                self._folder.stamp(mapping.name, mapping.seal)
        except FileNotFoundError:  # deleted meanwhile: there is nothing to seal
            return

    def copies(self, page: Page, held: Mapping | None) -> Iterator[Mapping]:
        """Yield the mapping that this process has of a page, and its file where that is another."""
        if held is not None:
            yield held
        try:
            self._folder.ensure()
            stored = self._map_unchecked(page)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return  # no folder, no file
        if stored is not None and not (held and stored.file and held.is_of(stored.file)):
            yield stored

    def damaged(self, pages: Sequence[Page]) -> DamagedPage:
        """Remove damaged files, and describe what happened."""
        for page in pages:
            self._folder.retire(file_name(page))
        were = "pages" if len(pages) > 1 else "page"
        return DamagedPage(
            f"damaged in the page cache {self._folder.path}: {were} "
            + ", ".join(digest.hex() for digest, _ in pages),
            hint="the damaged files were removed: repeat the query, which reads the table again; "
            "if it happens again, suspect the machine's memory",
        )

    # -- a file for all, or memory of this process ------------------------------------------------

    def _share(self, page: Page, must: bool, make: Make | None) -> Mapping:
        """Map the page's file, or write it first; where another process does, wait for that."""
        number = int.from_bytes(page[0][:7], "big")
        while True:
            self._folder.ensure()
            try:
                mapping = self._map(page)
                if mapping is not None:
                    return mapping
                with self._folder.lock(number) as held:
                    if held:
                        return self._map(page) or self._fill(page, must, make)
            except FileNotFoundError:  # the folder vanished meanwhile
                self._pulse()
                continue
            self._pulse()
            time.sleep(RETRY_SECONDS)

    def _fill(self, page: Page, must: bool, make: Make | None) -> Mapping:
        """Make a page's file and map it, or a copy of its own where there is no room for a file."""
        self._pulse()
        data = self._content(page, make)
        self._last = data  # held: what goes back to the system is cleared anew for each page
        self.made += 1
        with self._room.reserved(file_name(page), len(data), must) as there_is_room:
            if there_is_room:
                try:
                    return self._write(page, data)
                except OSError as error:
                    if error.errno not in UNWRITABLE:
                        raise
                    self._tell_private(error)
            elif must:
                raise NoRoom
        return copy_to_memory(page, data)

    def _content(self, page: Page, make: Make | None) -> Buffer:
        if make is not None:
            return with_checksum(make())
        return content(page, self._read_page(page[0]), self._read_blocks)

    def _write(self, page: Page, data: Buffer) -> Mapping:
        sealed = seal(page, len(data))
        try:
            self._folder.write(file_name(page), data, sealed)
        except OSError as error:
            if error.errno not in FULL or not self._room.free(len(data)):
                raise
            self._folder.write(file_name(page), data, sealed)
        mapping = self._map(page)
        if mapping is None:
            raise FileNotFoundError(errno.ENOENT, "deleted as soon as written", file_name(page))
        return mapping

    def _map(self, page: Page) -> Mapping | None:
        """Map the page's file if it is there, hashing it only when its seal is broken."""
        mapping = self._map_unchecked(page)
        if mapping is not None and mapping.file and not mapping.is_sealed(mapping.file):
            self.audit(mapping)
        return mapping

    def _map_unchecked(self, page: Page) -> Mapping | None:
        try:
            descriptor = self._folder.open_held(file_name(page))
        except FileNotFoundError:
            return None
        try:
            file = os.fstat(descriptor)
            if file.st_size % 4 or not file.st_size:  # cut short: not even floats
                raise self.damaged([page])
            return map_file(page, descriptor, file)
        finally:
            os.close(descriptor)

    def _tell_private(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        self._warn(
            f"the page cache folder {self._folder.path} takes no more pages "
            f"({os.strerror(error.errno or 0)}): this connection keeps them in memory of its own"
        )

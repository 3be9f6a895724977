"""Pages in this process's address space, and the open files that they cost it."""

import mmap
import os
import resource
import time
from collections.abc import Sized

from pageformer.errors import ServerUnready
from pageformer.udfs.page_cache.page_file import Buffer, Page, file_name, floats, is_sound, seal


class Mapping:
    """Hold one page in memory: its bytes, whose file they are, and how many users it has."""

    __slots__ = ("checked_at", "file", "floats", "holders", "memory", "name", "page", "seal")

    def __init__(self, page: Page, memory: mmap.mmap, file: os.stat_result | None) -> None:
        self.page = page
        self.name = file_name(page)
        self.seal = seal(page, len(memory))
        self.memory = memory
        self.file = file  # None: memory of this process alone
        self.floats = floats(page, memoryview(memory))
        self.holders = 0
        self.checked_at = time.monotonic()

    def is_sound(self) -> bool:
        """Hash the bytes. Past the end of a file that was cut short, reading them would kill us."""
        whole = self.file is None or self.memory.size() == len(self.memory)
        return whole and is_sound(self.page, memoryview(self.memory))

    def is_of(self, file: os.stat_result) -> bool:
        """Tell whether this maps that very file, one of the same folder."""
        return self.file is not None and self.file.st_ino == file.st_ino

    def is_sealed(self, file: os.stat_result) -> bool:
        """Tell whether nobody has written to the file since it was made."""
        return file.st_mtime_ns == self.seal


def map_file(page: Page, descriptor: int, file: os.stat_result) -> Mapping:
    """Map a page's whole file, read-only; the mapping keeps a descriptor of its own."""
    return Mapping(page, mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), file)


def copy_to_memory(page: Page, stored: Buffer) -> Mapping:
    """Keep a page in memory that belongs to this process alone."""
    memory = mmap.mmap(-1, len(stored), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = stored
    return Mapping(page, memory, None)


class FileLimit:
    """Raise this process's limit of open files by what mappings take: a descriptor each.

    PostgreSQL took stock of the limit when it started and plans to use all of it, so ours come on
    top. Python's `mmap` keeps the descriptor to the end (the kernel would not need it).
    """

    def __init__(self) -> None:
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._room = 0

    def make_room(self, mappings: int) -> None:
        """Let this many mappings stand beside the files that the process may open anyway."""
        if mappings <= self._room or resource.RLIM_INFINITY in (self._soft, self._hard):
            return
        self._room = 2 * mappings
        wanted = min(self._soft + self._room, self._hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, self._hard))

    def exhausted(self, pages: Sized) -> ServerUnready:
        """Describe that no more files can be opened."""
        return ServerUnready(
            f"this server process has no file descriptor left after mapping {len(pages)} pages: "
            f"it may open {min(self._soft + self._room, self._hard)} files",
            hint="raise the server's limit of open files (LimitNOFILE= of systemd, ulimit -n)",
        )

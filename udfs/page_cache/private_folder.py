"""A folder that only this user may enter, used through its descriptor and never through its path.

Whoever can write beside it (`/dev/shm` is open to all) could otherwise put a folder or a link of
their own in its place and choose the weights that we compute with. It may vanish at any time:
logind's RemoveIPC deletes what an ordinary user left in `/dev/shm` at logout.
"""

import errno
import fcntl
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from pageformer.errors import ServerUnready
from pageformer.udfs.page_cache.watch import Start, Watch

LOCKS = "locks"
RETIRED = "retired."  # what lost its name while somebody still holds it
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

FULL = {errno.ENOSPC, errno.EDQUOT}
# The folder cannot take a file now: full, over quota, read-only, not writable, or file too large.
UNWRITABLE = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class PrivateFolder:
    """Hold one folder of files and a lock per number, shared by this user's processes.

    watch: begins to be told of changes in a folder.
    """

    def __init__(self, path: str, watch: Start | None = None) -> None:
        self.path = path
        self.watch = Watch(watch)
        self.openings = 0  # counts the folders that stood there; whoever maps a file looks at it
        self._folder = -1
        self._locks = -1

    def ensure(self) -> None:
        """Open the folder, making it where it is missing or has been replaced since.

        Raises ServerUnready when what stands there is not a folder of ours, or nothing can.
        """
        while not self._stands():
            self.close()
            try:
                os.mkdir(self.path, 0o700)
            except FileExistsError:
                pass
            except FileNotFoundError as error:
                raise self._unready("cannot be made: the folder around it is missing") from error
            try:
                self._open()
            except FileNotFoundError:  # deleted again in between
                continue

    def close(self) -> None:
        """Close the descriptors; locks that are held through them are released."""
        self.watch.end()
        for descriptor in (self._folder, self._locks):
            if descriptor >= 0:
                os.close(descriptor)
        self._folder = self._locks = -1

    def open(self, name: str) -> int:
        """Open a file for reading and return its descriptor."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)

    def open_held(self, name: str) -> int:
        """Open a file so that nobody reclaims it until the last duplicate of its descriptor closes.

        Raises FileNotFoundError also when somebody is just making or deleting it.
        """
        descriptor = self.open(name)
        if hold(descriptor, fcntl.LOCK_SH) and os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "not there to be held", name)

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the name of every file, and what is known of it."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        with os.fdopen(self.open(name), "rb") as file:
            return file.read()

    def has(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        return os.access(name, os.F_OK, dir_fd=self._folder, follow_symlinks=False)

    def stat(self, name: str) -> os.stat_result:
        """Look at a file without opening it."""
        return os.stat(name, dir_fd=self._folder, follow_symlinks=False)

    def stamp(self, name: str, modified: int) -> None:
        """Set a file's time of modification, in nanoseconds."""
        os.utime(name, ns=(modified, modified), dir_fd=self._folder, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            return

    def reclaim(self, name: str) -> bool:
        """Delete a file that nobody holds; tell whether its room is free now."""
        try:
            descriptor = self.open(name)
        except FileNotFoundError:
            return False
        try:
            if not hold(descriptor, fcntl.LOCK_EX):
                return False
            self.remove(name)
            return True
        finally:
            os.close(descriptor)

    def retire(self, name: str) -> None:
        """Take a file's name away. Held, it takes up room, so it stays where that is counted."""
        if self.reclaim(name):
            return
        try:
            aside = f"{RETIRED}{self.stat(name).st_ino}"
            os.rename(name, aside, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileNotFoundError:
            return

    def write(self, name: str, data: bytes | memoryview, modified: int) -> None:
        """Write a file that others see whole or not at all, read-only, with this modification time.

        The caller holds the lock of the file. What a killed process left is overwritten.
        """
        # Two processes with different lock files (one was deleted) do not share a temporary name.
        temporary = f"{name}.{os.fstat(self._locks).st_ino}"
        self.remove(temporary)
        descriptor = os.open(temporary, CREATE | os.O_EXCL, 0o600, dir_fd=self._folder)
        try:
            hold(descriptor, fcntl.LOCK_EX)
            write_wholly(descriptor, data)
            os.fchmod(descriptor, 0o400)
            os.utime(descriptor, ns=(modified, modified))
            os.rename(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self.remove(temporary)
            raise
        finally:
            os.close(descriptor)

    def map_shared(self, name: str, size: int) -> mmap.mmap:
        """Map a file of `size` bytes that all processes may write to; made where it is missing."""
        descriptor = os.open(name, CREATE, 0o600, dir_fd=self._folder)
        try:
            os.posix_fallocate(descriptor, 0, size)
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def socket_path(self, name: str) -> str:
        """Return where a socket of the folder is bound and reached, however long its path is."""
        return f"/proc/self/fd/{self._folder}/{name}"

    def shared_memory(self, name: str, size: int) -> tuple[mmap.mmap, bool]:
        """Map memory that all processes share; where none can be, this one's own, and False."""
        try:
            self.ensure()
            return self.map_shared(name, size), True
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return mmap.mmap(-1, size), False

    @contextmanager
    def lock(self, number: int) -> Iterator[bool]:
        """Try to hold lock `number`; tell whether it is held. The kernel frees a dead holder's."""
        if self._locks < 0 or os.fstat(self._locks).st_nlink == 0:
            self._open_locks()
        held = try_lock(self._locks, number)
        try:
            yield held
        finally:
            if held:
                fcntl.lockf(self._locks, fcntl.LOCK_UN, 1, number)

    def _stands(self) -> bool:
        if self._folder < 0:
            return False
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(self._folder))

    def _open(self) -> None:
        try:
            self._folder = os.open(self.path, OPEN_FOLDER)
            self.openings += 1
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise self._unready("is not a folder") from error
            if error.errno in (errno.EACCES, errno.EPERM):
                raise self._unready("may not be entered by this server's user") from error
            raise
        try:
            self._check_ours(os.fstat(self._folder))
        except ServerUnready:
            self.close()
            raise
        self.watch.begin(f"/proc/self/fd/{self._folder}")

    def _check_ours(self, found: os.stat_result) -> None:
        if found.st_uid != os.geteuid():
            raise self._unready(f"belongs to user id {found.st_uid}, not {os.geteuid()}")
        mode = stat.S_IMODE(found.st_mode)
        if mode != 0o700:
            raise self._unready(f"has mode {mode:04o}, not 0700: others could have written to it")

    def _open_locks(self) -> None:
        if self._locks >= 0:
            os.close(self._locks)
            self._locks = -1
        self._locks = os.open(LOCKS, CREATE, 0o600, dir_fd=self._folder)

    def _unready(self, what: str) -> ServerUnready:
        return ServerUnready(
            f"the page cache folder {self.path} {what}",
            hint="remove it, or name another folder for it in the setting cache_folder",
        )


def try_lock(descriptor: int, number: int) -> bool:
    """Take the lock on byte `number` of a file unless another process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except (BlockingIOError, PermissionError):
        return False
    return True


def hold(descriptor: int, how: int) -> bool:
    """Hold an open file, shared or alone, unless somebody does who is against it.

    What holds is the open file: its duplicates, as a mapping has one, go on doing so, and the
    kernel lets go with the last of them, however its process ends.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_wholly(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`, with its space set aside first.

    A full file system is told here, by an error, and not later by SIGBUS in a process that maps it.
    """
    os.posix_fallocate(descriptor, 0, len(data))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]

"""The socket that backends find beside the page cache."""

import fcntl
import os
import socket

from pageformer.errors import ObjectsInUse
from pageformer.serving.database import Place
from pageformer.udfs.executors.client import socket_name
from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.private_folder import PrivateFolder


class Listener:
    """Hold the socket that backends find, and the right to be the only one."""

    def __init__(self, place: Place) -> None:
        self._folder: PrivateFolder = page_cache(place).folder
        self._name = socket_name(place.database)
        self._lock = -1
        self._bound: os.stat_result | None = None

    def open(self) -> socket.socket:
        """Listen.

        Raises ObjectsInUse when another process does, and ServerUnready when its folder is not
        ours.
        """
        self._folder.ensure()
        if not self._holds_lock():
            self._take_lock()
        self._folder.remove(self._name)
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            line.bind(self._folder.socket_path(self._name))
        finally:
            os.umask(before)
        line.listen(128)
        self._bound = self._folder.stat(self._name)
        return line

    def stands(self) -> bool:
        """Tell whether the socket is still where backends look for it."""
        try:
            self._folder.ensure()
            found = self._folder.stat(self._name)
        except FileNotFoundError:
            return False
        return self._bound is not None and os.path.samestat(found, self._bound)

    def close(self) -> None:
        """Let nobody in any more."""
        if self.stands():
            self._folder.remove(self._name)

    def _holds_lock(self) -> bool:
        """Tell whether the lock is ours, of the file that others would try."""
        try:
            there = self._folder.stat(f"{self._name}.lock")
        except FileNotFoundError:
            return False
        return self._lock >= 0 and os.path.samestat(there, os.fstat(self._lock))

    def _take_lock(self) -> None:
        path = self._folder.socket_path(f"{self._name}.lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ObjectsInUse(
                "another process serves this database", hint="stop it first, or let it be"
            ) from None
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = lock


def page_cache(place: Place) -> PageCache:
    """Find the page cache of the cluster; nothing is read through this one."""

    def nothing(page: bytes) -> bytes:
        raise FileNotFoundError(page.hex())

    return PageCache(
        place.cache_folder, place.data_directory, nothing, lambda: None, lambda text: None
    )

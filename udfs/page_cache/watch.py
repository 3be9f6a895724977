"""Whether anything changed in a folder, as the kernel tells: one call, however many files."""

import os
from collections.abc import Callable
from fcntl import ioctl
from termios import FIONREAD

Start = Callable[[str], int]  # the path of a folder -> a descriptor that tells of changes there

NONE = bytes(4)  # bytes to be read, as FIONREAD tells


class Watch:
    """Count the changes in one folder.

    start: begins to watch; None: nobody here can. A user's processes may watch so many folders and
    no more (fs.inotify.max_user_instances): whoever comes later looks at files instead.
    """

    def __init__(self, start: Start | None) -> None:
        self._start = start
        self._descriptor = -1
        self._owner = 0
        self._count = 0

    def begin(self, path: str) -> None:
        """Watch this folder from now on, and no other."""
        self.end()
        if self._start is None:
            return
        try:
            self._descriptor = self._start(path)
        except OSError:  # too many watches, or none on this system
            return
        self._owner = os.getpid()
        self._count += 1

    def end(self) -> None:
        """Watch no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def count(self) -> int | None:
        """Return a number that grows when anything changed; None: that is not known.

        A child of the process that began has the same descriptor: what one reads, the other misses.
        """
        if self._descriptor < 0 or self._owner != os.getpid():
            return None
        while ioctl(self._descriptor, FIONREAD, NONE) != NONE:
            os.read(self._descriptor, 65536)
            self._count += 1
        return self._count

"""Keep the page files within a limit of bytes: what is worth least goes, what is in use stays.

One process at a time adds up, deletes and writes, under a lock that the kernel takes from the dead.
A page that any process has mapped is not deleted, since that would free nothing; whoever holds
pages that it does not need is asked to let go of them.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pageformer.errors import ServerUnready
from pageformer.udfs.page_cache.eviction import POLICIES, displaces
from pageformer.udfs.page_cache.inventory import File, Inventory
from pageformer.udfs.page_cache.private_folder import UNWRITABLE, PrivateFolder
from pageformer.udfs.page_cache.usage import ADDED_UP, ASKED, BYTES, Counts, Usage

UNITS = ("B", "KB", "MB", "GB", "TB")
SIZE = re.compile(rf"(\d+)\s*({'|'.join(UNITS)})?", re.IGNORECASE)
LOCK = (1 << 60) + 1  # beyond the locks of pages
RETRY_SECONDS = 0.002
PATIENCE_SECONDS = 2.0  # a process that was stopped while it made room does not stop all others
FRESH_SECONDS = 1  # what was added up this recently is believed
LIMITED_SECONDS = 0.001  # requests are settled together that long, where they decide what stays
UNLIMITED_SECONDS = 0.1  # and where they are counted to be shown
MORE = 32  # when something goes, this part of the limit goes with it: adding up takes time


def limit_of(value: str) -> int | None:
    """Read the setting cache_limit: bytes, or none.

    Raises ServerUnready when it is neither.
    """
    if value.lower() == "none":
        return None
    found = SIZE.fullmatch(value.strip())
    if found is None:
        raise ServerUnready(
            f"the setting cache_limit is {value!r}", hint="give a size, as 512MB or 4GB, or none"
        )
    return int(found[1]) << 10 * UNITS.index((found[2] or "B").upper())


def policy_of(value: str) -> str:
    """Read the setting cache_policy.

    Raises ServerUnready for a policy that there is not.
    """
    if value not in POLICIES:
        raise ServerUnready(
            f"the setting cache_policy is {value!r}", hint=f"it is one of {', '.join(POLICIES)}"
        )
    return value


class Room:
    """Make room for pages in a folder.

    limit: in bytes; None: as much as the folder takes. policy: one of eviction.POLICIES.
    """

    def __init__(
        self, folder: PrivateFolder, limit: int | None, policy: str, pulse: Callable[[], None]
    ) -> None:
        self.limit = limit
        self.usage = Usage(folder, UNLIMITED_SECONDS if limit is None else LIMITED_SECONDS)
        self.inventory = Inventory(folder, self.usage)
        self._folder = folder
        self._policy = policy
        self._pulse = pulse
        self._asked = 0
        self._refused_until = 0.0  # no more is tried till then of what is worth too little
        self._least = 0.0

    @contextmanager
    def reserved(self, name: str, size: int, must: bool) -> Iterator[bool]:
        """Make room for a file and keep it while the file is written; tell whether there is any.

        must: the page is wanted whatever it is worth beside those that have to go.
        """
        if self.limit is None:
            yield True
            return
        if not must and self._still_refused(name, size):
            yield False
            return
        with self._alone() as alone:
            yield alone and self._take(name, size, must, self.limit)

    def free(self, size: int) -> bool:
        """Free so many bytes of a folder that takes no more; tell whether that could be done."""
        with self._alone() as alone:
            return alone and self._evict(size, None) >= size

    def trim(self) -> None:
        """Bring the folder down to its limit, as far as pages are not in use."""
        if self.limit is not None:
            self._folder.ensure()
            with self._alone() as alone:
                if alone and (over := self._add_up() - self.limit) > 0:
                    self._evict(over, None)

    def ask_back(self) -> None:
        """Ask all processes to let go of pages that they hold and do not need."""
        self._asked = self.usage.read(ASKED) + 1
        self.usage.write(ASKED, self._asked)

    def asked_back(self) -> bool:
        """Tell, once, that somebody asked for pages that this process does not need."""
        if self.limit is None or self.usage.read(ASKED) == self._asked:
            return False
        self._asked = self.usage.read(ASKED)
        return True

    def belong(self, version: bytes, kind: str, names: Sequence[str]) -> None:
        """Note which files a version is made of, where the folder takes that."""
        try:
            self._folder.ensure()
            if not self.inventory.knows(version, kind, names):
                with self._alone() as alone:
                    if alone:
                        self.inventory.note(version, kind, names)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Be the only one who changes the folder; False: another does not come to an end."""
        with ExitStack() as held:
            yield self._wait(held)

    def _wait(self, held: ExitStack) -> bool:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not held.enter_context(self._folder.lock(LOCK)):
            if time.monotonic() > deadline:
                return False
            self._pulse()
            time.sleep(RETRY_SECONDS)
        return True

    def _take(self, name: str, size: int, must: bool, limit: int) -> bool:
        """Take bytes that are free or can be freed; the file is to be written next."""
        used = self.usage.read(BYTES)
        if used + size > limit or time.time() > self.usage.read(ADDED_UP) + FRESH_SECONDS:
            used = self._add_up()
        if used + size > limit:
            used -= self._evict(used + size - limit, None if must else (name, size))
        self.usage.write(BYTES, used)
        if used + size > limit:
            return False
        self.usage.write(BYTES, used + size)
        return True

    def _add_up(self) -> int:
        used = self.inventory.add_up()
        self.usage.write(BYTES, used)
        self.usage.write(ADDED_UP, int(time.time()))
        return used

    def _evict(self, needed: int, newcomer: tuple[str, int] | None) -> int:
        """Delete what is worth least until `needed` bytes are free; return how many were freed.

        newcomer: name and size of the file that wants the room; it must be worth it.
        """
        files = sorted(self.inventory.files(), key=self._worth)
        new = self._worth(self.inventory.describe(*newcomer)) if newcomer else None
        freed, enough = 0, needed + (self.limit or 0) // MORE
        for file in files:
            if freed >= enough:
                break
            if new is not None and not displaces(self._policy, new, self._worth(file)):
                self._least = self._worth(file)
                self._refused_until = time.monotonic() + FRESH_SECONDS
                break
            if self._folder.reclaim(file.name):
                freed += file.held.bytes
                for version in file.versions:
                    self.usage.count(version, Counts(evictions=1))
        return freed

    def _worth(self, file: File) -> float:
        worth: float = POLICIES[self._policy](file.held)
        return worth

    def _still_refused(self, name: str, size: int) -> bool:
        """Tell whether a page worth so little was refused just now."""
        if time.monotonic() > self._refused_until:
            return False
        new = self._worth(self.inventory.describe(name, size))
        return not displaces(self._policy, new, self._least)

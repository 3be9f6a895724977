"""What page files there are, and which versions they belong to.

The folder itself is the record. Beside the pages stand lists of what each version is made of:

    version.<hash of the version>.<kind>    names of files, one to a line
"""

import os
import re
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pageformer.udfs.page_cache.eviction import Held
from pageformer.udfs.page_cache.page_file import cost
from pageformer.udfs.page_cache.private_folder import RETIRED, PrivateFolder
from pageformer.udfs.page_cache.usage import Standing, Usage

PAGE = re.compile(r"(?:[0-9a-z]+-)?[0-9a-f]{64}")
VERSION = re.compile(r"version\.([0-9a-f]{64})\.\w+")
UNFINISHED = re.compile(rf"(?:{PAGE.pattern}|{VERSION.pattern})\.\d+")


class File(NamedTuple):
    """Describe a page's file."""

    name: str
    versions: AbstractSet[bytes]
    held: Held


class Inventory:
    """Look through a folder of page files."""

    def __init__(self, folder: PrivateFolder, usage: Usage) -> None:
        self._folder = folder
        self._usage = usage
        self._lists: dict[tuple[str, int], list[str]] = {}  # by name and inode
        self._owners: dict[str, set[bytes]] = {}  # the versions of each file, as last seen

    def knows(self, version: bytes, kind: str, names: Sequence[str]) -> bool:
        """Tell whether the version is known to be made of these files."""
        try:
            return self._folder.read(list_name(version, kind)) == listed(names)
        except FileNotFoundError:
            return False

    def note(self, version: bytes, kind: str, names: Sequence[str]) -> None:
        """Note which files a version is made of; the caller is alone in the folder."""
        self._folder.write(list_name(version, kind), listed(names), time.time_ns())

    def files(self) -> list[File]:
        """Describe every page."""
        found = list(self._folder.files())
        self._read_lists(found)
        standings = self._usage.standings()
        return [
            self._described(name, file.st_size, standings)
            for name, file in found
            if PAGE.fullmatch(name)
        ]

    def describe(self, name: str, size: int) -> File:
        """Describe a page that is not there, by the lists that were last seen."""
        return self._described(name, size, self._usage.standings())

    def add_up(self) -> int:
        """Clear away what nobody needs, and count the bytes of the rest."""
        wanted = self._usage.standings()
        total = 0
        for name, file in self._folder.files():
            version = VERSION.fullmatch(name)
            if version and bytes.fromhex(version[1]) not in wanted:
                self._folder.remove(name)
            elif PAGE.fullmatch(name) or (left_over(name) and not self._folder.reclaim(name)):
                total += file.st_size
        return total

    def _described(self, name: str, size: int, standings: dict[bytes, Standing]) -> File:
        versions = self._owners.get(name, set())
        known = [standings.get(version, Standing()) for version in versions]
        rate = sum(standing.rate for standing in known)
        used = max((standing.used for standing in known), default=0.0)
        return File(name, versions, Held(size, size * cost(name), rate, used))

    def _read_lists(self, found: Iterable[tuple[str, os.stat_result]]) -> None:
        self._owners = {}
        for name, file in found:
            if version := VERSION.fullmatch(name):
                for page in self._names(name, file.st_ino):
                    self._owners.setdefault(page, set()).add(bytes.fromhex(version[1]))

    def _names(self, noted: str, inode: int) -> list[str]:
        key = (noted, inode)
        if key not in self._lists:
            try:
                self._lists[key] = self._folder.read(noted).decode().split()
            except FileNotFoundError:
                return []
        return self._lists[key]


def list_name(version: bytes, kind: str) -> str:
    """Name the list of a version's files of one kind."""
    return f"version.{version.hex()}.{kind}"


def listed(names: Sequence[str]) -> bytes:
    """Write a list."""
    return "\n".join(names).encode()


def left_over(name: str) -> bool:
    """Tell whether a file is one that was begun and not finished, or that lost its name."""
    return name.startswith(RETIRED) or UNFINISHED.fullmatch(name) is not None

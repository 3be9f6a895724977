"""Pack blocks into pages, the unit of I/O and caching: up to 1 MiB of one format and shape."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

PAGE_BYTES = 1 << 20


class Kind(NamedTuple):
    """Say what all blocks of one page share."""

    form: str
    rows: int
    cols: int


@dataclass(frozen=True)
class Page:
    """Hold one page: its bytes, and the names of its blocks in slot order."""

    kind: Kind
    data: bytes
    block_hashes: tuple[bytes, ...]
    hash: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", hashlib.sha256(self.data).digest())


@dataclass
class _OpenPage:
    """Collect the blocks of a page that is not full yet."""

    kind: Kind
    data: bytearray = field(default_factory=bytearray)
    block_hashes: list[bytes] = field(default_factory=list)

    def takes(self, size: int) -> bool:
        return not self.data or len(self.data) + size <= PAGE_BYTES

    def add(self, block_hash: bytes, data: memoryview) -> None:
        self.block_hashes.append(block_hash)
        self.data += data

    def close(self) -> Page:
        return Page(self.kind, bytes(self.data), tuple(self.block_hashes))


def pack(blocks: Iterable[tuple[Kind, bytes, memoryview]]) -> Iterator[Page]:
    """Pack (kind, hash, bytes) of blocks in the order they come; a page is as long as its blocks.

    Blocks that are used together come together, so order is kept. One page per kind is held.
    """
    open_pages: dict[Kind, _OpenPage] = {}
    for kind, block_hash, data in blocks:
        page = open_pages.setdefault(kind, _OpenPage(kind))
        if not page.takes(len(data)):
            yield page.close()
            page = open_pages[kind] = _OpenPage(kind)
        page.add(block_hash, data)
    for page in open_pages.values():
        yield page.close()

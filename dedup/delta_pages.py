"""Pack differences into pages: records differ in length, so a page is closed when it is full."""

from collections.abc import Iterable, Iterator

from pageformer.dedup.pages import PAGE_BYTES, Kind, Page
from pageformer.udfs.blocks import block_hash
from pageformer.udfs.delta import FORM, HEADER, NAME, pack_page

MOST_BLOCKS = 0xFFFF


def difference_name(side: int, base: bytes, record: bytes) -> bytes:
    """Name a block that is stored as a difference: by its base and its record."""
    return block_hash(FORM, side, side, base + record)


def pack_differences(side: int, blocks: Iterable[tuple[bytes, bytes]]) -> Iterator[Page]:
    """Pack (base's name, record) of blocks in the order they come; equal ones are stored once."""
    page: dict[bytes, tuple[bytes, bytes]] = {}
    seen: set[bytes] = set()
    size = HEADER.size
    for base, record in blocks:
        name = difference_name(side, base, record)
        if name in seen:
            continue
        seen.add(name)
        if page and (size + NAME + 4 + len(record) > PAGE_BYTES or len(page) == MOST_BLOCKS):
            yield _close(side, page)
            page, size = {}, HEADER.size
        page[name] = base, record
        size += NAME + 4 + len(record)
    if page:
        yield _close(side, page)


def _close(side: int, page: dict[bytes, tuple[bytes, bytes]]) -> Page:
    return Page(Kind(FORM, side, side), pack_page(side, side, list(page.values())), tuple(page))

"""What SQL functions know of the page cache."""

from collections.abc import Sequence

from pageformer.udfs import spi, versions
from pageformer.udfs.page_cache.cache import CacheUse


@spi.boundary
def figures(hashes: Sequence[bytes]) -> list[CacheUse]:
    """Return (hits, misses, evictions, pages, bytes) of these versions together."""
    return [spi.as_owner(versions.page_cache).use(hashes)]


@spi.boundary
def forget(version: bytes) -> None:
    """Expect nobody to want a version any more."""
    spi.as_owner(versions.page_cache).room.usage.forget(version)

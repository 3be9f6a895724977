"""Exact deduplication: of the blocks of a version, those that no stored block is equal to.

A block's name covers its format, shape and bytes, so equal names are equal blocks. Where stored
names are kept is the caller's affair.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

BATCH = 10_000  # names asked for at once

Lookup = Callable[[Sequence[bytes]], Iterable[bytes]]


def new_blocks(names: Iterable[bytes], stored_among: Lookup) -> set[bytes]:
    """Return those of `names` that are not stored yet.

    stored_among: tells which of some names are stored.
    """
    distinct = sorted(set(names))
    new = set(distinct)
    for batch in _batches(distinct):
        new.difference_update(stored_among(batch))
    return new


def _batches(names: list[bytes]) -> Iterator[list[bytes]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))

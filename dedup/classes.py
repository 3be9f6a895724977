"""Equivalence classes of blocks: those that exactly the same tensors use (Zhou et al. 2022, 5.2).

Blocks of one class are interchangeable, so every packing method works on classes.
"""

import reprlib
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

from pageformer.errors import InvalidInput

Block = Hashable
Tensor = Hashable
Owners = frozenset[Tensor]
Page = frozenset[Block]
Tensors = Mapping[Any, Collection[Any]]  # tensor -> its blocks, ids of any hashable types
Classes = dict[Owners, list[Block]]  # which tensors -> the blocks that exactly these use


def classes_of(tensors: Tensors) -> Classes:
    """Group blocks by the tensors that use them; in an order that does not change between runs.

    Raises InvalidInput where a tensor's blocks are not a collection of hashable ids.
    """
    owners: dict[Block, list[Tensor]] = {}
    for tensor, blocks in tensors.items():
        for block in in_order(_distinct(tensor, blocks)):
            owners.setdefault(block, []).append(tensor)
    classes: Classes = {}
    for block, using in owners.items():
        classes.setdefault(frozenset(using), []).append(block)
    return classes


def in_order(blocks: Iterable[Block]) -> list[Block]:
    """Sort ids by themselves, or by how they print where they do not compare."""
    listed = list(blocks)
    try:
        return sorted(listed)  # type: ignore[type-var]
    except TypeError:
        return sorted(listed, key=repr)


def check_capacity(capacity: int) -> None:
    """Raise InvalidInput unless a page holds a whole number of blocks, one at least."""
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise InvalidInput(
            f"the capacity of a page is {reprlib.repr(capacity)}",
            hint="give a whole number of blocks, 1 up",
        )


def _distinct(tensor: Tensor, blocks: Collection[Block]) -> set[Block]:
    if isinstance(blocks, str | bytes):
        raise InvalidInput(
            f"the blocks of tensor {tensor!r} are one string: {reprlib.repr(blocks)}",
            hint="give a set of block ids",
        )
    try:
        return set(blocks)
    except TypeError as error:
        raise InvalidInput(
            f"the blocks of tensor {tensor!r} are no set of block ids: {error}",
            hint="give a set of hashable ids",
        ) from error

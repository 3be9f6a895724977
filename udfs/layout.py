"""How a version's tensors lie in pages, as its rows tell: which page and slot holds each block."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from pageformer.udfs.config import Config

Borrow = Callable[[AbstractSet[bytes]], Mapping[bytes, memoryview]]
BUNDLE = "bundle"  # all 1-D tensors, one after another
MAX_DISTANCE = 128  # MPNet: positions farther apart than this share the last bucket


class Place(NamedTuple):
    """Say where a block lies: on which page, and which elements of it."""

    page: bytes
    start: int
    elements: int


class TensorRow(NamedTuple):
    """Hold one row of pageformer.tensor."""

    name: str
    shape: Sequence[int]
    grid: Sequence[Sequence[bytes]] | None
    bundle_offset: int | None


class Layout(NamedTuple):
    """Hold what a version's rows tell, and its mapped pages by hash, as float32.

    borrow: hashes -> pages, for as long as somebody has them; of a version that is not mapped
    as a whole.
    """

    config: Config
    side: int
    rows: Sequence[TensorRow]
    places: Mapping[bytes, Place]
    pages: Mapping[bytes, memoryview]
    borrow: Borrow | None = None

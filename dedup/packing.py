"""Pack blocks into pages so that every tensor is exactly a union of pages.

The problem and its greedy methods are those of "Serving Deep Learning Models with Deduplication
from Relational Databases" (Zhou et al., VLDB 2022, section 5). A page serves a tensor only when all
of its blocks are the tensor's; a block may stand on several pages.
"""

from collections.abc import Callable, Iterable, Sequence
from time import monotonic

from pageformer.dedup.classes import (
    Block,
    Classes,
    Owners,
    Page,
    Tensor,
    Tensors,
    check_capacity,
    classes_of,
)
from pageformer.dedup.dissolve import dissolve
from pageformer.dedup.optimal import pack_optimally
from pageformer.errors import InvalidInput, InvalidPacking

SECONDS = 60.0


def pack_pages(
    tensors: Tensors, capacity: int, method: str = "two-stage", *, time_limit: float = SECONDS
) -> list[Page]:
    """Pack the blocks of `tensors` into pages of at most `capacity` blocks.

    tensors: tensor -> the ids of its blocks. method: `greedy-1`, `greedy-2`, `two-stage` or
    `optimal`; the last searches for `time_limit` seconds and returns the best that it has found.
    Raises InvalidInput for an unknown method, a capacity below 1 or blocks that are not hashable.
    """
    check_capacity(capacity)
    if method not in METHODS:
        raise InvalidInput(
            f"there is no packing method {method!r}", hint=f"methods: {', '.join(METHODS)}"
        )
    pages = METHODS[method](classes_of(tensors), capacity, time_limit)
    verify_packing(tensors, capacity, pages)
    return pages


def verify_packing(tensors: Tensors, capacity: int, pages: Iterable[Page]) -> None:
    """Prove that each tensor is exactly the union of those pages that hold nothing else.

    Raises InvalidPacking naming the first page or tensor that is not as it should be.
    """
    check_capacity(capacity)
    wanted = {tensor: set(blocks) for tensor, blocks in tensors.items()}
    covered: dict[Tensor, set[Block]] = {tensor: set() for tensor in wanted}
    users = _users(wanted)
    for number, page in enumerate(pages):
        if not 1 <= len(page) <= capacity:
            raise InvalidPacking(
                f"page {number} has {len(page)} blocks; a page has 1 to {capacity}"
            )
        serves = set.intersection(*(users.get(block, set()) for block in page))
        if not serves:
            raise InvalidPacking(f"page {number} holds blocks that no one tensor has all of")
        for tensor in serves:
            covered[tensor] |= page
    for tensor, blocks in wanted.items():
        if missing := len(blocks - covered[tensor]):
            raise InvalidPacking(
                f"{missing} of the {len(blocks)} blocks of tensor {tensor!r} are on no page that "
                "it can read"
            )


def greedy_1(classes: Classes, capacity: int, time_limit: float = SECONDS) -> list[Page]:
    """Give every class pages of its own."""
    return [page for blocks in classes.values() for page in _cut(blocks, capacity)]


def greedy_2(classes: Classes, capacity: int, time_limit: float = SECONDS) -> list[Page]:
    """Go through the tensors from the largest: reuse pages that fit, page the rest anew.

    Blocks that many tensors use come first, so that their pages can serve the others.
    """
    owners = {block: using for using, blocks in classes.items() for block in blocks}
    sets = _tensor_sets(classes)
    pages: list[Page] = []
    for tensor in sorted(sets, key=lambda tensor: -len(sets[tensor])):
        usable = (page for page in pages if all(tensor in owners[block] for block in page))
        left = _cover(sets[tensor], usable)
        rest = [block for block in _by_use(classes, tensor) if block in left]
        pages.extend(_cut(rest, capacity))
    return pages


def two_stage(classes: Classes, capacity: int, time_limit: float = SECONDS) -> list[Page]:
    """Fill whole pages class by class; pack what is left over by the better greedy method.

    What no greedy method sees is then tried: a page goes whose blocks find room on pages that serve
    the same tensors.
    """
    full: list[Page] = []
    rest: Classes = {}
    for using, blocks in classes.items():
        whole = len(blocks) - len(blocks) % capacity
        full.extend(_cut(blocks[:whole], capacity))
        if whole < len(blocks):
            rest[using] = blocks[whole:]
    packings = (greedy_1(rest, capacity), greedy_2(rest, capacity))
    return full + min((dissolve(pages, rest, capacity) for pages in packings), key=len)


def optimal(classes: Classes, capacity: int, time_limit: float = SECONDS) -> list[Page]:
    """Return the smallest packing that is found in time, by integer programming or by greed."""
    started = monotonic()
    greedy = min((method(classes, capacity) for method in (greedy_2, two_stage)), key=len)
    found = pack_optimally(classes, capacity, time_limit - (monotonic() - started)).pages
    return min((found or greedy, greedy), key=len)


METHODS: dict[str, Callable[[Classes, int, float], list[Page]]] = {
    "greedy-1": greedy_1,
    "greedy-2": greedy_2,
    "two-stage": two_stage,
    "optimal": optimal,
}


def _cut(blocks: Sequence[Block], capacity: int) -> list[Page]:
    return [frozenset(blocks[i : i + capacity]) for i in range(0, len(blocks), capacity)]


def _cover(wanted: set[Block], pages: Iterable[Page]) -> set[Block]:
    """Return what is left of `wanted` when pages are taken while they still add something."""
    left = set(wanted)
    for page in sorted(pages, key=len, reverse=True):
        left -= page
    return left


def _tensor_sets(classes: Classes) -> dict[Tensor, set[Block]]:
    sets: dict[Tensor, set[Block]] = {}
    for using, blocks in classes.items():
        for tensor in using:
            sets.setdefault(tensor, set()).update(blocks)
    return sets


def _by_use(classes: Classes, tensor: Tensor) -> list[Block]:
    mine: list[Owners] = [using for using in classes if tensor in using]
    return [block for using in sorted(mine, key=len, reverse=True) for block in classes[using]]


def _users(wanted: dict[Tensor, set[Block]]) -> dict[Block, set[Tensor]]:
    users: dict[Block, set[Tensor]] = {}
    for tensor, blocks in wanted.items():
        for block in blocks:
            users.setdefault(block, set()).add(tensor)
    return users

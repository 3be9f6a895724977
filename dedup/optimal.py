"""Pack pages by integer programming over equivalence classes, and prove how good the result is.

A page that holds blocks of the classes S, T ... serves the tensors in all of them: their
intersection U. So a packing is, per intersection U of observed classes, a number of pages, and per
class S a number of blocks for each way to cover S by such U. Blocks of a class are interchangeable,
hence counted, never enumerated; classes that nobody has do not appear.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from pageformer.dedup.classes import Block, Classes, Owners, Page, Tensor

MOST_INTERSECTIONS = 400
MOST_COVERS = 200  # of one class
MOST_FAMILIES = 2000  # looked at for the covers of one class, the minimal ones among them
Cover = tuple[Owners, ...]


@dataclass(frozen=True)
class Packing:
    """Hold a packing and how few pages any other would need at least."""

    pages: list[Page]  # none: no packing was found in time
    bound: int

    @property
    def proven(self) -> bool:
        """Tell whether no packing has fewer pages."""
        return len(self.pages) == self.bound


def pack_optimally(classes: Classes, capacity: int, time_limit: float) -> Packing:
    """Search for the smallest packing, for `time_limit` seconds at most.

    The bound is the programme's own where it holds every way to pack, else that every block needs a
    slot.
    """
    blocks = sum(map(len, classes.values()))
    simple = -(-blocks // capacity)
    if not classes or time_limit <= 0:
        return Packing([], simple)
    started = monotonic()
    serving, complete = intersections(list(classes))
    covers: dict[Owners, list[Cover]] = {}
    for using in classes:
        in_time = monotonic() - started < time_limit / 2
        covers[using], whole = _covers(using, serving if in_time else [])
        complete &= whole and in_time
    left = max(time_limit - (monotonic() - started), 0.1)
    solution, bound = _solve(classes, covers, serving, capacity, left)
    pages = _pages(classes, covers, solution, capacity) if solution is not None else []
    return Packing(pages, max(bound, simple) if complete else simple)


def intersections(observed: Sequence[Owners]) -> tuple[list[Owners], bool]:
    """Return all intersections of observed classes, and whether that is all of them."""
    found = dict.fromkeys(observed)
    fresh = list(found)
    while fresh:
        new: dict[Owners, None] = {}
        for a in fresh:
            for b in observed:
                if (common := a & b) and common not in found:
                    new[common] = None
            if len(found) + len(new) > MOST_INTERSECTIONS:
                return list(found), False
        found.update(new)
        fresh = list(new)
    return list(found), True


def _covers(using: Owners, serving: Sequence[Owners]) -> tuple[list[Cover], bool]:
    """Return the minimal families of `serving` whose union is `using`, fewest sets first."""
    parts = sorted((part for part in serving if part < using), key=len, reverse=True)
    covers: dict[frozenset[Owners], Cover] = {frozenset({using}): (using,)}
    for looked_at, family in enumerate(_families(using, parts)):
        if len(covers) == MOST_COVERS or looked_at == MOST_FAMILIES:
            return list(covers.values()), False
        if all(_needed(part, family) for part in family):
            covers.setdefault(frozenset(family), family)
    return list(covers.values()), True


def _families(left: Owners, parts: Sequence[Owners], chosen: Cover = ()) -> Iterator[Cover]:
    """Yield families that cover `left`, branching on the tensor that fewest parts serve."""
    if not left:
        yield chosen
        return
    choices = {tensor: [part for part in parts if tensor in part] for tensor in left}
    for part in min(choices.values(), key=len):
        yield from _families(left - part, parts, (*chosen, part))


def _needed(part: Owners, chosen: Cover) -> bool:
    others: set[Tensor] = set()
    return not part <= others.union(*(other for other in chosen if other is not part))


def _solve(
    classes: Classes,
    covers: Mapping[Owners, list[Cover]],
    serving: Sequence[Owners],
    capacity: int,
    seconds: float,
) -> tuple[dict[tuple[Owners, Cover], int] | None, int]:
    """Minimise pages: how many blocks of each class take each cover, and the proven bound."""
    number = {part: i for i, part in enumerate(serving)}
    choices = [(using, cover) for using in classes for cover in covers[using]]
    first = len(serving)  # variables: pages per serving set, then blocks per choice
    entries: list[tuple[int, int, float]] = [(i, i, -capacity) for i in range(first)]
    row_of = {using: first + i for i, using in enumerate(classes)}
    for i, (using, cover) in enumerate(choices, start=first):
        entries.extend((number[part], i, 1) for part in cover)
        entries.append((row_of[using], i, 1))
    rows, cols, values = zip(*entries, strict=True)
    sizes = [len(blocks) for blocks in classes.values()]
    matrix = csr_array((values, (rows, cols)), (first + len(sizes), first + len(choices)))
    result = milp(
        np.concatenate([np.ones(first), np.zeros(len(choices))]),
        constraints=LinearConstraint(matrix, [-np.inf] * first + sizes, [0] * first + sizes),
        integrality=np.ones(first + len(choices)),
        bounds=Bounds(0, np.inf),
        options={"time_limit": seconds},
    )
    bound = result.mip_dual_bound
    proven = math.ceil(bound - 1e-6) if bound is not None and math.isfinite(bound) else 0
    if result.x is None:
        return None, proven
    counts = np.rint(result.x[first:]).astype(int)
    return {c: int(n) for c, n in zip(choices, counts, strict=True) if n}, proven


def _pages(
    classes: Classes,
    covers: Mapping[Owners, list[Cover]],
    solution: Mapping[tuple[Owners, Cover], int],
    capacity: int,
) -> list[Page]:
    """Give every block the cover that the solution counts it under, and cut pages."""
    on: dict[Owners, list[Block]] = {}
    for using, blocks in classes.items():
        start = 0
        for cover in covers[using]:
            stop = start + solution.get((using, cover), 0)
            for part in cover:
                on.setdefault(part, []).extend(blocks[start:stop])
            start = stop
    return [
        frozenset(blocks[i : i + capacity])
        for blocks in on.values()
        for i in range(0, len(blocks), capacity)
    ]

"""Replace blocks by stored ones that are alike, as long as an accuracy bound holds.

The rung of Zhou et al. (VLDB 2022, section 4): blocks are tried in an order that puts first what
likely harms least, and the accuracy is checked as it goes. Here a step that breaks the bound is
undone, and halved until the very block that breaks it is found.
"""

from collections.abc import Callable, Hashable, Sequence
from time import monotonic
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Holds = Callable[[Sequence[Key]], bool]

# What is not tried after so many evaluations, or so long, stays as it is.
MOST_CHECKS = 60
MOST_SECONDS = 240.0


def accept(
    order: Sequence[Key],
    holds: Holds[Key],
    checks: int = MOST_CHECKS,
    seconds: float = MOST_SECONDS,
) -> list[Key]:
    """Return the replacements that may stand together; the last check that passed was on them.

    order: the replacements, the most harmless first. holds: evaluates a model that has some of
    them. A part that breaks the bound is undone and tried again by halves, so that one harmful
    block costs about 2 log2(n) checks and keeps no other from being replaced.
    """
    accepted: list[Key] = []
    waiting = [list(order)] if order else []
    started = monotonic()
    for _ in range(checks):
        if not waiting or monotonic() - started > seconds:
            break
        part = waiting.pop()
        if holds([*accepted, *part]):
            accepted.extend(part)
        elif len(part) > 1:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
    return accepted


def in_paper_order(
    blocks: Sequence[Key], size: Callable[[Key], int], magnitude: Callable[[Key], float]
) -> list[Key]:
    """Order blocks as the paper does: largest tensors first, smallest magnitude first in each.

    size: elements of the block's tensor. magnitude: of the block's elements.
    """
    return sorted(blocks, key=lambda block: (-size(block), magnitude(block)))

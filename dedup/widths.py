"""Choose how each block is stored: as its base, as a difference of some width, or whole.

Each choice has a price in bytes and a likely harm; one exchange rate between the two fixes the
choice of every block at once (Lagrangian rate allocation: Shoham and Gersho 1988). The rate is then
bisected against the real bound, so that as few bytes are spent as the bound allows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pageformer.dedup.quantise import CODINGS, keep_rows, quantise, row_errors
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import BITS, TERNARY, Delta

MAP_BYTES = 230  # of one new block: its rows in `block` and `placement`, its base's name
CHEAPEST, DEAREST = 1e-3, 1e-8  # harm that one byte must save
CHECKS = 9
Chosen = TypeVar("Chosen")
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """Say how one block is stored: neither a difference nor whole means as its base."""

    delta: Delta | None = None
    whole: bool = False


class Block:
    """Hold a block, its base, and what every way to store it would cost and harm.

    weights: how much an error in each row of the block matters.  # [rows]
    """

    def __init__(self, block: Array, base: Array, weights: Array, whole_bytes: int) -> None:
        self.base = base
        self.whole_bytes = whole_bytes
        self._difference = block.astype(np.float32) - base
        squared = np.einsum("ij,ij->i", self._difference, self._difference)
        self._untouched = squared * weights  # [rows]
        self._missed = {
            coding: row_errors(self._difference, quantise(self._difference, coding)) * weights
            for coding in CODINGS
        }

    def choose(self, rate: float) -> Choice:
        """Choose the cheapest way when a byte must save `rate` of harm."""
        best, choice = float(self._untouched.sum()), Choice()
        fixed = MAP_BYTES + 2 + 2 * len(self._untouched)
        for coding, missed in self._missed.items():
            per_row = self._difference.shape[1] * bits(coding) / 8
            keep = self._untouched - missed > rate * per_row
            harm = float(np.where(keep, missed, self._untouched).sum())
            cost = harm + rate * (fixed + per_row * int(keep.sum()))
            if keep.any() and cost < best:
                best, choice = cost, self._coded(coding, keep)
        whole = Choice(whole=True)
        return whole if rate * (MAP_BYTES + self.whole_bytes) < best else choice

    def _coded(self, coding: int, keep: Rows) -> Choice:
        delta = keep_rows(quantise(self._difference, coding), keep)
        return Choice(delta) if delta.scales.any() else Choice()


def bits(coding: int) -> float:
    """Return the bits that one element takes."""
    return 1.6 if coding == TERNARY else BITS[coding]


def bisect(
    choose: Callable[[float], Chosen], holds: Callable[[Chosen], bool], checks: int = CHECKS
) -> float | None:
    """Return the highest rate found at which the bound holds; None where it never does.

    choose: what to do with every block at some rate. holds: evaluates that.
    """
    low, high = math.log10(DEAREST), math.log10(CHEAPEST)
    if holds(choose(CHEAPEST)):
        return CHEAPEST
    found = None
    for _ in range(checks):
        middle = (low + high) / 2
        if holds(choose(10**middle)):
            found, low = 10**middle, middle
        else:
            high = middle
    return found

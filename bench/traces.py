"""Requests for versions that share pages, made by a seed: what caches are tried on.

A trace is a list of requests, each the pages of one version, numbered.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pages = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Trace:
    """Hold what versions are made of, and which of them is asked for, one after another."""

    pages: list[Pages]  # of each version
    requests: list[int]

    @property
    def size(self) -> int:
        """Count the pages of all versions, shared ones once."""
        return len(np.unique(np.concatenate(self.pages)))


def versions(count: int = 16, pages: int = 100, shared: float = 0.2) -> list[Pages]:
    """Make versions of so many pages, a part of which is in all of them."""
    common = round(pages * shared)
    own = pages - common
    return [
        np.concatenate([np.arange(common), common + own * v + np.arange(own)]) for v in range(count)
    ]


def zipf(
    seed: int, pages: list[Pages], requests: int = 2000, exponent: float = 1.0, drift: int = 0
) -> Trace:
    """Ask for versions by Zipf's law; after every `drift` requests the ranks move on by one."""
    dice = np.random.default_rng(seed)
    weights = np.arange(1, len(pages) + 1) ** -exponent
    ranks = dice.choice(len(pages), requests, p=weights / weights.sum())
    order = dice.permutation(len(pages))
    moved = np.arange(requests) // drift if drift else 0
    return Trace(pages, order[(ranks + moved) % len(pages)].tolist())


def scan(pages: list[Pages], requests: int = 2000) -> Trace:
    """Ask for one version after another, again and again."""
    return Trace(pages, [i % len(pages) for i in range(requests)])

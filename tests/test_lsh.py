"""Blocks that are alike find each other by their signatures; strangers mostly do not."""

import numpy as np
import pytest

from pageformer.dedup.lsh import BANDS, candidates, nearest, signatures
from pageformer.udfs.blocks import Array


def blocks(count: int, side: int = 32, seed: int = 0, scale: float = 0.05) -> Array:
    random = np.random.default_rng(seed)
    return random.normal(0, scale, (count, side, side)).astype(np.float32)


def moved(stored: Array, part: float, seed: int = 1) -> Array:
    """Move each block by a part of its length."""
    noise = blocks(len(stored), stored.shape[1], seed, scale=float(stored.std()))
    return stored + np.float32(part) * noise


@pytest.mark.parametrize(("part", "least"), [(0.01, 1.0), (0.05, 0.999), (0.1, 0.99), (0.2, 0.85)])
def test_blocks_that_moved_a_little_are_found(part: float, least: float) -> None:
    stored = blocks(500)
    found = candidates(signatures(moved(stored, part)), signatures(stored))
    assert np.mean([number in near for number, near in enumerate(found)]) >= least


@pytest.mark.parametrize("scale", [1e-4, 0.05, 30.0])
def test_strangers_are_rarely_candidates_whatever_their_size(scale: float) -> None:
    strangers = signatures(blocks(500, seed=3, scale=scale))
    found = candidates(strangers, signatures(blocks(2000, scale=scale)))
    assert sum(map(len, found)) <= 0.0001 * 500 * 2000


def test_candidates_grow_with_the_blocks_not_with_their_square() -> None:
    def compared(count: int) -> int:
        stored = blocks(count)
        near = candidates(signatures(moved(stored, 0.05)), signatures(stored))
        return sum(map(len, near))

    assert compared(8000) <= 1.2 * 8 * compared(1000)


def test_equal_blocks_have_equal_signatures_and_zeros_have_one() -> None:
    zeros = np.zeros((2, 32, 32), np.float32)
    first, second = signatures(zeros)
    assert first.tolist() == second.tolist()
    assert signatures(blocks(3)).tolist() == signatures(blocks(3)).tolist()


def test_stored_signatures_stay_what_they_are() -> None:
    """They are compared with those of later releases: this may never change."""
    ramp = np.arange(1024, dtype=np.float32).reshape(1, 32, 32)
    assert signatures(ramp).shape == (1, BANDS)
    assert signatures(ramp)[0, :4].tolist() == [-1252775629, -886510164, -1968486153, -1949086237]


def test_the_nearest_is_told_with_its_distance() -> None:
    block = np.ones((2, 2), np.float32)
    assert nearest(block, [block * 3, block * 1.5]) == (1, pytest.approx(0.5))

"""Find blocks that are alike without comparing each with each: locality-sensitive hashing.

The p-stable hashes of Datar et al. (2004): h(x) = floor((a.x + b) / r) with normal a and uniform b,
so that near blocks likely hash alike. A band is several hashes at once; blocks that have one band
in common are candidates, to be verified by their true distance. Blocks are hashed at length 1, so
that one r fits the weights of every model.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from pageformer.udfs.blocks import Array

BANDS = 24
HASHES = 10  # of one band
WIDTH = 0.8  # r: blocks are found up to a fifth of their length apart, strangers are sqrt(2) apart
SEED = 20041  # signatures are stored: never change what follows from it
Bands = npt.NDArray[np.int32]


@cache
def _projection(elements: int) -> tuple[Array, Array]:
    """Draw a `[elements, bands * hashes]` and b, the same on every machine and every time."""
    random = np.random.RandomState(SEED)  # its streams are frozen; those of Generator are not
    a = random.standard_normal((elements, BANDS * HASHES)).astype(np.float32)
    return a, random.uniform(0, WIDTH, BANDS * HASHES).astype(np.float32)


@cache
def _mixers() -> npt.NDArray[np.uint64]:
    """Draw the odd numbers that mix the hashes of a band into one."""
    random = np.random.RandomState(SEED + 1)
    return random.randint(0, 2**63, (BANDS, HASHES), np.uint64) * np.uint64(2) + np.uint64(1)


def signatures(blocks: Array) -> Bands:
    """Hash blocks into bands.  # [n, rows, cols] -> [n, bands]"""
    flat = blocks.reshape(len(blocks), -1)
    a, b = _projection(flat.shape[1])
    length = np.sqrt(np.einsum("ij,ij->i", flat, flat))
    projected = flat @ a
    projected /= np.maximum(length, np.float32(1e-30))[:, None]
    hashes = np.floor((projected + b) / np.float32(WIDTH)).astype(np.int64)
    mixers = _mixers()
    mixed = (hashes.view(np.uint64).reshape(-1, BANDS, HASHES) * mixers).sum(axis=2)
    mixed += np.arange(BANDS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    bands: Bands = (mixed >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return bands


def candidates(wanted: Bands, stored: Bands) -> list[list[int]]:
    """Return, for each wanted signature, the numbers of stored ones that share a band with it."""
    places: dict[int, list[int]] = {}
    of_interest = set(wanted.ravel().tolist())
    for number, bands in enumerate(stored.tolist()):
        for band in bands:
            if band in of_interest:
                places.setdefault(band, []).append(number)
    return [
        sorted({number for band in bands for number in places.get(band, ())})
        for bands in wanted.tolist()
    ]


def nearest(block: Array, others: Sequence[Array]) -> tuple[int, float]:
    """Return which of `others` is nearest, and its distance in parts of the block's own length."""
    distances = [float(np.linalg.norm(block - other)) for other in others]
    best = int(np.argmin(distances))
    return best, distances[best] / max(float(np.linalg.norm(block)), 1e-30)

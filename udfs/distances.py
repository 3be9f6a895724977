"""What tells tokens how far they are apart: biases, windows, rotations, embeddings of distances.

Everything here depends on lengths alone, not on what the tokens are.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pageformer.udfs.attention import Relative, Rotary
from pageformer.udfs.blocks import Array
from pageformer.udfs.config import Config
from pageformer.udfs.layout import MAX_DISTANCE
from pageformer.udfs.model import Layer, Model

Ids = npt.NDArray[np.intp]
TABLE = "relative_embeddings"


class Distances(NamedTuple):
    """Hold the last arguments of the operator `attention`."""

    bias: Array | None = None  # [heads, 2 longest - 1]
    window: int | None = None
    rotary: Rotary | None = None
    seen: int | None = None


def tells_distances(config: Config) -> bool:
    """Tell whether attention asks how far tokens are apart, in some layer or in all."""
    asked = (config.rotary_theta, config.local_theta, config.local_layers, config.alibi)
    return any((*asked, config.relative_buckets, config.relative_span))


def distances(
    model: Model, offsets: Sequence[int], local: bool, seen: int | None = None
) -> Distances:
    """Make what a batch of these lengths needs, in local layers or in the others.

    seen: so many tokens of each sequence are looked at, the others only look.
    """
    config, longest = model.config, longest_of(offsets)
    theta = config.local_theta if local else config.rotary_theta
    width = config.hidden // config.heads
    rotary = rotary_tables(width, theta, config.rotary_divisor, longest) if theta else None
    return Distances(
        distance_bias(model, longest),
        config.window if local else None,
        Rotary(*map(model.operators.array, rotary)) if rotary else None,
        seen,
    )


def longest_of(offsets: Sequence[int]) -> int:
    """Return the length of the longest sequence, at least 1."""
    return max((stop - start for start, stop in pairwise(offsets)), default=1) or 1


def distance_bias(model: Model, longest: int) -> Array | None:
    """Return the attention bias for every relative position.  # [heads, 2 longest - 1]"""
    apart = np.arange(1 - longest, longest)
    if model.config.alibi:
        slopes = np.array(alibi_slopes(model.config.heads), np.float32)
        return model.operators.array(-slopes[:, None] * np.abs(apart).astype(np.float32))
    if model.config.relative_buckets:
        buckets = relative_buckets(apart, model.config.relative_buckets)
        return model.operators.rows(buckets, model.matrices["relative_attention_bias"]).T
    return None


def alibi_slopes(heads: int) -> list[float]:
    """Return how fast each head's attention falls with distance (Press et al. 2022)."""
    power = 2 ** int(math.log2(heads))
    ratio = 2 ** -(8 / power)
    slopes = [ratio ** (i + 1) for i in range(power)]
    between = alibi_slopes(2 * power)[::2] if power < heads else []
    return slopes + between[: heads - power]


def rotary_tables(width: int, theta: float, divisor: float, longest: int) -> tuple[Array, Array]:
    """Compute cosines and sines of every position (Su et al. 2021).  # 2 x [longest, width]

    width: of a head. divisor: of the frequencies.
    """
    frequency = (theta ** (-np.arange(0, width, 2) / width) / divisor).astype("f4")
    angle = np.arange(longest, dtype=np.float32)[:, None] * frequency
    twice = np.concatenate((angle, angle), axis=1)
    return np.cos(twice), np.sin(twice)


def relative_buckets(distance: Ids, buckets: int) -> Ids:
    """Number relative positions j - i: exact when near, logarithmic when far (T5, MPNet).  # [m]"""
    half = buckets // 2
    exact = half // 2
    far = np.abs(distance)
    scale = np.log(np.maximum(far, 1) / exact, dtype=np.float32) / math.log(MAX_DISTANCE / exact)
    logarithmic = exact + (scale * (half - exact)).astype(np.intp)
    bucket: Ids = np.where(far < exact, far, np.minimum(logarithmic, half - 1))
    return bucket + half * (distance > 0)


def relative_positions(model: Model, layer: Layer, offsets: Sequence[int]) -> Relative:
    """Make DeBERTa's keys and queries of the distances that a batch has.

    They are the layer's own maps of one table of embeddings, shared by all layers. What tasks edit
    there, they edit for the whole batch (tasks/relative.py).
    """
    config, operators, longest = model.config, model.operators, longest_of(offsets)
    apart = -np.arange(1 - longest, longest)  # i - j
    span = config.relative_span
    row = np.clip(logarithmic(apart, span, config.relative_reach) + span, 0, 2 * span - 1)
    used, index = np.unique(row, return_inverse=True)
    table = operators.rows(used, model.matrices[TABLE])
    table = operators.edited_rows(table, used, model.terms_at(TABLE))
    if config.relative_norm:
        norm, terms = model.norm(f"{TABLE}.norm"), model.terms_at(f"{TABLE}.norm")
        if terms:
            table = operators.add_norm(table, None, norm, terms)
        else:
            table = operators.layer_norm(table, norm)
    keys, queries = (
        operators.linear(table, part.weight, part.bias, terms=part.terms)
        if term in config.relative_terms
        else None
        for part, term in ((layer.key, "c2p"), (layer.query, "p2c"))
    )
    return Relative(keys, queries, index)


def logarithmic(distance: Ids, span: int, reach: int) -> Ids:
    """Number distances as DeBERTa-v2 does: exact when near, logarithmic when far.

    reach: distances that are told apart at all; 0: all of them, and exactly.
    """
    if not reach:
        return distance
    middle = span // 2
    far = np.maximum(np.abs(distance), middle - 1)
    scale = np.log(np.float32((reach - 1) / middle))
    place = np.log((far / middle).astype(np.float32)) / scale * np.float32(middle - 1)
    return np.where(far <= middle, distance, (np.ceil(place) + middle) * np.sign(distance)).astype(
        np.intp
    )

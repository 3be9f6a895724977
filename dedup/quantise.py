"""Quantise the difference of two blocks: a scale per row and codes of a few bits.

Scales are least squares given the codes, for a quantiser that is scaled by the largest difference
spends its levels on outliers. Scales are rounded to bfloat16 before the codes are chosen.
"""

import numpy as np
import numpy.typing as npt

from pageformer.udfs.blocks import Array, widen
from pageformer.udfs.delta import (
    BITS,
    EIGHT_BITS,
    FOUR_BITS,
    SIGN,
    TERNARY,
    THREE_BITS,
    TWO_BITS,
    Codes,
    Delta,
    Scales,
    levels,
)

CODINGS = (SIGN, TERNARY, TWO_BITS, THREE_BITS, FOUR_BITS, EIGHT_BITS)  # the cheapest first
TERNARY_THRESHOLD = 0.7  # of the mean magnitude (Li and Liu, Ternary Weight Networks, 2016)
ROUNDS = 3  # of choosing codes and scales by turns

# Half the best step of a uniform quantiser for normal differences (Max 1960): where rounds start.
HALF_STEP = {TWO_BITS: 0.4979, THREE_BITS: 0.2930, FOUR_BITS: 0.1676}
TINY = np.float32(1e-30)


def quantise(difference: Array, coding: int) -> Delta:
    """Quantise every row of a difference, zero rows included.  # [rows, cols]"""
    scales = to_bfloat16(_scales(difference, coding))
    codes = _codes(difference, from_bfloat16(scales), coding)
    return Delta(coding, scales, codes)


def keep_rows(delta: Delta, keep: npt.NDArray[np.bool_]) -> Delta:
    """Drop the codes of rows that are not kept, or that have no scale: these stay the base's."""
    scales = np.where(keep, delta.scales, np.uint16(0))
    return Delta(delta.coding, scales, delta.codes[scales != 0])


def row_errors(difference: Array, delta: Delta) -> Array:
    """Return each row's squared error, all rows coded.  # [rows]"""
    missed = difference - decoded(delta)
    return np.einsum("ij,ij->i", missed, missed)  # type: ignore[no-any-return]


def decoded(delta: Delta) -> Array:
    """Return the difference that codes stand for, all rows coded.  # [rows, cols]"""
    return from_bfloat16(delta.scales)[:, None] * levels(delta.coding, delta.codes)


def to_bfloat16(values: Array) -> Scales:
    """Round float32 to bfloat16, to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(scales: Scales) -> Array:
    """Widen bfloat16 to float32."""
    return widen(scales.astype("<u2").tobytes(), "bf16")


def _scales(difference: Array, coding: int) -> Array:
    """Choose a scale per row.  # [rows]"""
    size = np.abs(difference)
    if coding == SIGN:
        return size.mean(axis=1)  # type: ignore[no-any-return]
    if coding == TERNARY:
        large = size > TERNARY_THRESHOLD * size.mean(axis=1, keepdims=True)
        return (size * large).sum(axis=1) / np.maximum(large.sum(axis=1), 1)  # type: ignore[no-any-return]
    if coding == EIGHT_BITS:
        return size.max(axis=1) / np.float32(2**8 - 1)  # type: ignore[no-any-return]
    scales = difference.std(axis=1) * np.float32(HALF_STEP[coding])
    for _ in range(ROUNDS):
        level = levels(coding, _codes(difference, scales, coding))
        scales = np.abs((difference * level).sum(axis=1)) / (level * level).sum(axis=1)
    return scales  # type: ignore[no-any-return]


def _codes(difference: Array, scales: Array, coding: int) -> Codes:
    """Choose the nearest level of each element.  # [rows, cols]"""
    scaled = difference / np.maximum(scales, TINY)[:, None]
    if coding == TERNARY:
        return (np.clip(np.rint(scaled), -1, 1) + 1).astype(np.uint8)
    most = 2 ** BITS[coding] - 1
    codes: Codes = np.clip(np.rint((scaled + most) * np.float32(0.5)), 0, most).astype(np.uint8)
    return codes

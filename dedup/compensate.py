"""Quantise differences row by row, and let later rows make up for what earlier ones missed.

Rows are multiplied by inputs that rise and fall together, so the error of one is taken up by those
after it: optimal brain surgery (Hassibi and Stork 1993) in the order of GPTQ (Frantar et al. 2023).
"""

from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np

from pageformer.dedup.quantise import decoded, quantise
from pageformer.dedup.widths import Choice, Rows
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import Codes, Delta, Scales

DAMPING = 0.01  # of the mean square of an input, added to each
Cell = tuple[int, int]  # block row, block column


def influence(gram: Array) -> Array:
    """Return how the error of each row is spread over the rows after it.  # [k, k] -> [k, k]

    gram: x^T x of inputs that the rows are multiplied by.
    """
    mean = max(float(np.trace(gram)) / len(gram), 1e-12)
    damped = gram.astype(np.float64) + np.eye(len(gram)) * DAMPING * mean
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)


def compensate(
    differences: Mapping[Cell, Array], chosen: Mapping[Cell, Choice], influence: Array
) -> dict[Cell, Choice]:
    """Choose the codes of a tensor's differences anew; which rows have codes, and how wide, stays.

    differences: of the blocks that are not equal to a stored one, `[side, side]`, by their place.
    influence: of the tensor's rows, `[rows, rows]`.
    """
    rows, columns = len(influence), 1 + max(j for _, j in differences)
    side = len(next(iter(differences.values())))
    wanted = np.zeros((rows, columns, side), np.float32)
    for (i, j), difference in differences.items():
        part = wanted[i * side : (i + 1) * side, j]
        part[:] = difference[: len(part)]
    fixed, made = wanted.copy(), dict(chosen)
    for start in range(0, rows, side):
        here = slice(start, min(start + side, rows))
        strip = [chosen.get((start // side, j), Choice(whole=True)) for j in range(columns)]
        missed = np.empty_like(wanted[here])
        for coding, group in _by_coding(strip):
            kept = np.stack([_kept(strip[j], here.stop - start) for j in group], axis=1)
            rest = fixed[here, group] * [[[strip[j].whole] for j in group]]
            coded = _code(wanted[here, group], kept, rest, coding, influence[here, here])
            missed[:, group] = coded[0]
            for n, j in enumerate(group if coding else ()):
                made[start // side, j] = _choice(coding, side, coded[1][:, n], coded[2][:, n])
        later = influence[here, here.stop :].T @ missed.reshape(len(missed), -1)
        wanted[here.stop :] -= later.reshape(-1, columns, side)
    return made


def _by_coding(strip: list[Choice]) -> Iterator[tuple[int, list[int]]]:
    """Group the columns of a strip of blocks by their coding; 0: none."""
    codings = [0 if choice.delta is None else choice.delta.coding for choice in strip]
    columns = sorted(range(len(strip)), key=codings.__getitem__)
    for coding, group in groupby(columns, key=codings.__getitem__):
        yield coding, list(group)


def _kept(choice: Choice, rows: int) -> Rows:
    """Tell which rows of a block have codes.  # [rows]"""
    if choice.delta is None:
        return np.zeros(rows, np.bool_)
    kept: Rows = choice.delta.scales[:rows] != 0
    return kept


def _code(
    wanted: Array, kept: Rows, rest: Array, coding: int, influence: Array
) -> tuple[Array, Scales, Codes]:
    """Code the rows of some blocks that lie beside each other; return what is missed, and codes.

    wanted `[rows, blocks, side]`, kept `[rows, blocks]`; rest: what rows without codes will be.
    """
    missed = np.empty_like(wanted)
    scales, codes = np.zeros(kept.shape, np.uint16), np.zeros(wanted.shape, np.uint8)
    for r, row in enumerate(wanted):
        stored = rest[r]
        if coding:
            delta = quantise(row, coding)
            scales[r], codes[r] = np.where(kept[r], delta.scales, np.uint16(0)), delta.codes
            stored = np.where(kept[r][:, None], decoded(delta), stored)
        missed[r] = (row - stored) / influence[r, r]
        wanted[r + 1 :] -= np.multiply.outer(influence[r, r + 1 :], missed[r])
    return missed, scales, codes


def _choice(coding: int, side: int, scales: Scales, codes: Codes) -> Choice:
    """Make the choice of one block from what its rows became; rows that pad it have no codes."""
    if not scales.any():
        return Choice()
    padded = np.zeros(side, np.uint16)
    padded[: len(scales)] = scales
    return Choice(Delta(coding, padded, codes[scales != 0]))

"""Later rows make up for what quantising earlier ones missed, at the same bytes."""

import numpy as np
import pytest

from pageformer.dedup.compensate import Cell, compensate, influence
from pageformer.dedup.quantise import decoded, keep_rows, quantise
from pageformer.dedup.widths import Choice
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import SIGN, TERNARY, TWO_BITS, Delta, pack_record

SIDE, ROWS, COLUMNS = 32, 80, 3  # the last blocks have 16 rows of padding
RANDOM = np.random.default_rng(0)
INPUTS = (RANDOM.normal(0, 1, (500, 8)) @ RANDOM.normal(0, 1, (8, ROWS))).astype(np.float32)
INPUTS += RANDOM.normal(0, 0.3, INPUTS.shape).astype(np.float32)
CELLS: list[Cell] = [(i, j) for i in range(3) for j in range(COLUMNS)]


def differences() -> dict[Cell, Array]:
    made = {cell: RANDOM.normal(0, 1e-2, (SIDE, SIDE)).astype(np.float32) for cell in CELLS}
    for j in range(COLUMNS):
        made[2, j][ROWS % SIDE :] = 0
    return made


def choose(differences: dict[Cell, Array]) -> dict[Cell, Choice]:
    """Choose three codings, a third of the rows dropped; one block is whole, one the base."""
    chosen = {}
    for (i, j), difference in differences.items():
        delta = quantise(difference, (SIGN, TERNARY, TWO_BITS)[(i + j) % 3])
        chosen[i, j] = Choice(keep_rows(delta, np.arange(SIDE) % 3 > 0))
    return {**chosen, (0, 1): Choice(whole=True), (1, 2): Choice()}


def missed(differences: dict[Cell, Array], chosen: dict[Cell, Choice]) -> float:
    """Measure how far products with the inputs are from those of the differences themselves."""
    total = 0.0
    for j in range(COLUMNS):
        column = [differences[i, j] - value(differences[i, j], chosen[i, j]) for i in range(3)]
        total += float(np.square(INPUTS @ np.concatenate(column)[:ROWS]).sum())
    return total


def value(difference: Array, choice: Choice) -> Array:
    if choice.delta is None:
        return difference if choice.whole else np.zeros_like(difference)
    every = np.zeros((SIDE, choice.delta.codes.shape[1]), np.uint8)
    every[choice.delta.scales != 0] = choice.delta.codes
    return decoded(Delta(choice.delta.coding, choice.delta.scales, every))


def test_products_miss_half_as_much_at_the_same_bytes() -> None:
    wanted = differences()
    chosen = choose(wanted)
    made = compensate(wanted, chosen, influence(INPUTS.T @ INPUTS))
    assert missed(wanted, made) < 0.5 * missed(wanted, chosen)
    for cell, choice in made.items():
        before = chosen[cell]
        assert choice.whole == before.whole
        assert (choice.delta is None) == (before.delta is None)
        if choice.delta and before.delta:
            assert len(pack_record(choice.delta)) <= len(pack_record(before.delta))


def test_inputs_that_are_alone_leave_codes_as_they_were() -> None:
    wanted = differences()
    chosen = choose(wanted)
    made = compensate(wanted, chosen, influence(np.eye(ROWS, dtype=np.float32)))
    for cell, choice in made.items():
        rows = ROWS - cell[0] * SIDE
        if choice.delta and (before := chosen[cell].delta):
            assert choice.delta.scales[:rows].tolist() == before.scales[:rows].tolist()


@pytest.mark.parametrize("gram", [np.zeros((ROWS, ROWS)), np.ones((ROWS, ROWS))])
def test_inputs_that_were_never_seen_or_all_alike_break_nothing(gram: Array) -> None:
    wanted = differences()
    made = compensate(wanted, choose(wanted), influence(gram.astype(np.float32)))
    assert np.isfinite(missed(wanted, made))

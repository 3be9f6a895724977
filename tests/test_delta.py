"""A delta is its base plus a quantised difference, in the bytes that udfs/delta.py describes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.dedup.quantise import CODINGS, keep_rows, quantise, row_errors, to_bfloat16
from pageformer.udfs.blocks import Array
from pageformer.udfs.delta import (
    EIGHT_BITS,
    FOUR_BITS,
    SIGN,
    TERNARY,
    THREE_BITS,
    TWO_BITS,
    Delta,
    DeltaPage,
    apply,
    pack_page,
    pack_record,
    unpack_record,
)

ONE = np.array([0x3F80], np.uint16)  # 1.0 in bfloat16


@pytest.mark.parametrize(
    ("coding", "codes", "packed"),
    [
        (SIGN, [1, 0, 1, 1, 0, 0, 0, 1], "8d"),
        (TERNARY, [0, 1, 2, 0, 1, 2, 2, 0], "66 08"),
        (TWO_BITS, [0, 1, 2, 3, 3, 0, 0, 1], "e4 43"),
        (THREE_BITS, [1, 2, 3, 4, 5, 6, 7, 0], "d1 58 1f"),
        (FOUR_BITS, [0, 15, 1, 2, 3, 4, 5, 6], "f0 21 43 65"),
        (EIGHT_BITS, [0, 255, 1, 2, 3, 4, 5, 6], "00 ff 01 02 03 04 05 06"),
    ],
)
def test_a_record_has_these_bytes(coding: int, codes: list[int], packed: str) -> None:
    delta = Delta(coding, ONE, np.array([codes], np.uint8))
    record = pack_record(delta)
    assert record == bytes([coding, 0, 0x80, 0x3F]) + bytes.fromhex(packed)
    assert unpack_record(record, 1, 8).codes.tolist() == [codes]


@pytest.mark.parametrize(
    ("coding", "codes", "levels"),
    [
        (SIGN, [0, 1], [-1, 1]),
        (TERNARY, [0, 1, 2], [-1, 0, 1]),
        (TWO_BITS, [0, 1, 2, 3], [-3, -1, 1, 3]),
        (THREE_BITS, [0, 3, 4, 7], [-7, -1, 1, 7]),
        (FOUR_BITS, [0, 7, 8, 15], [-15, -1, 1, 15]),
        (EIGHT_BITS, [0, 128, 255], [-255, 1, 255]),
    ],
)
def test_a_code_stands_for_this_level(coding: int, codes: list[int], levels: list[int]) -> None:
    base = np.full((1, len(codes)), 10, np.float32)
    block = apply(base, Delta(coding, ONE, np.array([codes], np.uint8)))
    assert (block - 10).tolist() == [levels]


def test_a_page_has_these_bytes() -> None:
    first = pack_record(Delta(SIGN, np.array([0x3F80, 0], np.uint16), np.ones((1, 8), np.uint8)))
    second = pack_record(Delta(SIGN, np.zeros(2, np.uint16), np.zeros((0, 8), np.uint8)))
    page = pack_page(2, 8, [(b"a" * 32, first), (b"b" * 32, second)])
    assert page == (
        b"pfdp" + bytes.fromhex("0100 0200 02000000 08000000")
        + b"a" * 32 + b"b" * 32
        + bytes.fromhex("07000000 06000000")
        + bytes.fromhex("0100 803f 0000 ff")
        + bytes.fromhex("0100 0000 0000")
    )  # fmt: skip
    bases = {b"a" * 32: np.zeros((2, 8), np.float32), b"b" * 32: np.full((2, 8), 5, np.float32)}
    expanded = np.frombuffer(DeltaPage(page).expand(bases), np.float32).reshape(2, 2, 8)
    assert expanded[0].tolist() == [[1] * 8, [0] * 8]
    assert expanded[1].tolist() == [[5] * 8] * 2


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from(CODINGS), st.integers(0, 2**32 - 1))
def test_what_is_packed_is_read_again(rows: int, cols: int, coding: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    difference = random.laplace(0, 10.0 ** random.integers(-9, 3), (rows, cols)).astype(np.float32)
    delta = keep_rows(quantise(difference, coding), random.random(rows) < 0.7)
    read = unpack_record(pack_record(delta), rows, cols)
    assert read.scales.tolist() == delta.scales.tolist()
    assert read.codes.tolist() == delta.codes.tolist()


def relative_error(difference: Array, coding: int) -> float:
    missed = row_errors(difference, quantise(difference, coding)).sum()
    return float(missed / (difference * difference).sum())


@pytest.mark.parametrize(
    ("coding", "most"),
    [
        (SIGN, 0.37),
        (TERNARY, 0.20),
        (TWO_BITS, 0.13),
        (THREE_BITS, 0.04),
        (FOUR_BITS, 0.013),
        (EIGHT_BITS, 5e-4),
    ],
)
def test_a_normal_difference_loses_this_much(coding: int, most: float) -> None:
    difference = np.random.default_rng(0).normal(0, 1e-3, (128, 128)).astype(np.float32)
    assert relative_error(difference, coding) <= most


def test_wider_codings_lose_less_where_there_are_outliers() -> None:
    difference = np.random.default_rng(0).standard_t(3, (128, 128)).astype(np.float32) / 1000
    errors = [relative_error(difference, coding) for coding in CODINGS]
    assert errors == sorted(errors, reverse=True)


def test_a_row_without_difference_costs_no_codes() -> None:
    difference = np.zeros((4, 8), np.float32)
    difference[2] = 1
    delta = keep_rows(quantise(difference, SIGN), np.ones(4, np.bool_))
    assert len(pack_record(delta)) == 2 + 2 * 4 + 1
    assert apply(np.ones((4, 8), np.float32), delta).tolist() == (1 + difference).tolist()


def test_scales_round_to_the_nearest_even_bfloat16() -> None:
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-7 + 2**-9], np.float32)
    assert to_bfloat16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81]


def test_a_record_that_is_too_short_is_refused() -> None:
    record = pack_record(Delta(SIGN, ONE, np.ones((1, 8), np.uint8)))
    with pytest.raises(ValueError, match="coding 1 has 0 bytes of codes"):
        unpack_record(record[:-1], 1, 8)
    with pytest.raises(ValueError, match="do not start with a delta page's header"):
        DeltaPage(b"\0" * 64)

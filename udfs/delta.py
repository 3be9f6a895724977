"""Blocks as differences: a base block's name and, per row, a scale and small whole numbers.

A block is `base + scale[row] * level`. One page, little endian:

    offset   size          what
    0        4             magic `pfdp`
    4        2             version, 1
    6        2             n, how many blocks
    8        4, 4          rows and columns of a block
    16       32 n          name of each block's base, which is never a delta itself
    16+32n   4 n           size of each record
    16+36n                 the records, one after another

    record   1             coding: 1 sign, 2 ternary, 3 to 6: two, three, four, eight bits
             1             0
             2 rows        bfloat16 scale of each row; 0: the row is the base's, and has no codes
             the rest      codes of the other rows, row-major, with no gap between rows

A code c of b bits stands for the level 2c + 1 - 2^b (sign: -1, 1; two bits: -3, -1, 1, 3); the
first stands in the lowest bits of a byte. A ternary code is a level plus one, five to a byte, the
first the lowest digit to base 3.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pageformer.udfs.block_value import Buffer
from pageformer.udfs.blocks import Array, widen

HEADER = struct.Struct("<4sHHII")
MAGIC = b"pfdp"
VERSION = 1
NAME = 32
FORM = "delta"
SIGN, TERNARY, TWO_BITS, THREE_BITS, FOUR_BITS, EIGHT_BITS = 1, 2, 3, 4, 5, 6
BITS = {SIGN: 1, TWO_BITS: 2, THREE_BITS: 3, FOUR_BITS: 4, EIGHT_BITS: 8}
FIVE_DIGITS = np.array([1, 3, 9, 27, 81], np.uint8)
Codes = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.uint16]  # bfloat16


class Delta(NamedTuple):
    """Hold one block's difference to its base."""

    coding: int
    scales: Scales  # [rows]
    codes: Codes  # [rows with a scale, cols]


def levels(coding: int, codes: Codes) -> Array:
    """Return what codes stand for, in units of their row's scale."""
    if coding == TERNARY:
        return codes.astype(np.float32) - np.float32(1)
    return codes.astype(np.float32) * np.float32(2) + np.float32(1 - 2 ** BITS[coding])


def apply(base: Array, delta: Delta) -> Array:
    """Add a difference to its base.  # [rows, cols] -> [rows, cols]"""
    block = base.astype(np.float32, copy=True)
    scales = widen(delta.scales.astype("<u2").tobytes(), "bf16")
    kept = scales != 0
    block[kept] += scales[kept, None] * levels(delta.coding, delta.codes)
    return block


def pack_record(delta: Delta) -> bytes:
    """Write one block's record."""
    flat = delta.codes.ravel()
    head = bytes([delta.coding, 0]) + delta.scales.astype("<u2").tobytes()
    if delta.coding == TERNARY:
        digits = np.zeros((-(-flat.size // 5), 5), np.uint8)
        digits.ravel()[: flat.size] = flat
        packed: Codes = (digits * FIVE_DIGITS).sum(axis=1, dtype=np.uint8)
        return head + packed.tobytes()
    bits = np.unpackbits(flat[:, None], axis=1, count=BITS[delta.coding], bitorder="little")
    return head + np.packbits(bits, bitorder="little").tobytes()


def unpack_record(record: Buffer, rows: int, cols: int) -> Delta:
    """Read one block's record.

    Raises ValueError when its length does not fit its coding.
    """
    coding = record[0]
    scales = np.frombuffer(record, "<u2", rows, 2)
    packed = np.frombuffer(record, np.uint8, offset=2 + 2 * rows)
    count = int(np.count_nonzero(scales)) * cols
    size = -(-count // 5) if coding == TERNARY else -(-count * BITS[coding] // 8)
    if packed.size != size:
        raise ValueError(f"a record of coding {coding} has {packed.size} bytes of codes")
    if coding == TERNARY:
        codes = (packed[:, None] // FIVE_DIGITS % 3).ravel()[:count]
    else:
        codes = _unpack_bits(packed, BITS[coding], count)
    return Delta(coding, scales, codes.reshape(-1, cols))


def _unpack_bits(packed: Codes, bits: int, count: int) -> Codes:
    """Split bytes into codes of `bits` bits, the lowest first."""
    if 8 % bits:
        digits = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(-1, bits)
        return np.packbits(digits, axis=1, bitorder="little").ravel()
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[:, None] >> shifts) & np.uint8(2**bits - 1)).ravel()[:count]


def pack_page(rows: int, cols: int, blocks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write a page of (base's name, record)."""
    head = HEADER.pack(MAGIC, VERSION, len(blocks), rows, cols)
    sizes = struct.pack(f"<{len(blocks)}I", *(len(record) for _, record in blocks))
    bases = b"".join(base for base, _ in blocks)
    return head + bases + sizes + b"".join(record for _, record in blocks)


class DeltaPage:
    """Read a page of differences."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        magic, version, count, self.rows, self.cols = HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise ValueError("these bytes do not start with a delta page's header")
        self.bases = [
            bytes(self._data[start : start + NAME])
            for start in range(HEADER.size, HEADER.size + NAME * count, NAME)
        ]
        self._sizes = struct.unpack_from(f"<{count}I", data, HEADER.size + NAME * count)

    def records(self) -> Iterator[memoryview]:
        """Yield the record of each slot."""
        start = HEADER.size + (NAME + 4) * len(self.bases)
        for size in self._sizes:
            yield self._data[start : start + size]
            start += size

    def blocks(self, bases: Mapping[bytes, Array]) -> Iterator[Array]:
        """Yield each slot's block in float32, from the bases by name."""
        for base, record in zip(self.bases, self.records(), strict=True):
            yield apply(bases[base], unpack_record(record, self.rows, self.cols))

    def expand(self, bases: Mapping[bytes, Array]) -> bytes:
        """Return the page's blocks in float32, in slot order, as a page of format f32 has them."""
        return b"".join(block.tobytes() for block in self.blocks(bases))

"""How an array of a task is stored: its formats, its name, and how it lies on a page.

Elements are little endian, row-major. Bits are packed eight to a byte, the first one lowest, over
the whole array, the last byte filled up with zeros. On a page, arrays lie one after another, each
at a multiple of 64 bytes.
"""

import hashlib
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pageformer.udfs.block_value import Buffer
from pageformer.udfs.blocks import widen

ALIGNMENT = 64
WHOLE = {"u16": "<u2", "u32": "<u4"}  # formats of whole numbers
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "u16": 2, "u32": 4}


class TaskArray(NamedTuple):
    """Hold an array of a task as it is stored."""

    form: str  # f32, f16, bf16, u16, u32 or bits
    shape: tuple[int, ...]
    data: Buffer

    @property
    def hash(self) -> bytes:
        """Name the array: sha256 of its format, shape and bytes."""
        shape = "x".join(map(str, self.shape))
        digest = hashlib.sha256(f"{self.form}:{shape}:".encode())
        digest.update(self.data)
        return digest.digest()

    def read(self) -> npt.NDArray[Any]:
        """Return the elements: numbers in float32, bits as bool, whole numbers as they are."""
        if self.form == "bits":
            packed = np.frombuffer(self.data, np.uint8)
            bits = np.unpackbits(packed, count=prod(self.shape), bitorder="little")
            return bits.astype(bool).reshape(self.shape)
        if self.form in WHOLE:
            return np.frombuffer(self.data, WHOLE[self.form]).reshape(self.shape)
        return widen(self.data, self.form).reshape(self.shape)


def size(form: str, shape: Sequence[int]) -> int:
    """Count the bytes of an array."""
    elements = prod(shape)
    return -(-elements // 8) if form == "bits" else elements * BYTES[form]


def floats(array: npt.ArrayLike) -> TaskArray:
    """Store numbers in float32."""
    stored = np.ascontiguousarray(array, "<f4")
    return TaskArray("f32", stored.shape, stored.tobytes())


def bits(array: npt.ArrayLike) -> TaskArray:
    """Store booleans."""
    stored = np.asarray(array, bool)
    return TaskArray("bits", stored.shape, np.packbits(stored, bitorder="little").tobytes())


def whole(array: npt.ArrayLike, form: str) -> TaskArray:
    """Store whole numbers that fit into `form`, u16 or u32."""
    stored = np.ascontiguousarray(array, WHOLE[form])
    return TaskArray(form, stored.shape, stored.tobytes())


def aligned(place: int) -> int:
    """Return the next place where an array may begin."""
    return -(-place // ALIGNMENT) * ALIGNMENT

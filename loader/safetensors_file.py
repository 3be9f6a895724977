"""Read tensors where they lie in a safetensors file, mapped and in the file's own element type.

The safetensors library checks the file; its NumPy side has no bfloat16 and copies, so offsets are
taken from the header here. A file is eight bytes (the header's length, little endian), the header
(JSON: name -> dtype, shape, data_offsets), then the tensors' bytes.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from pageformer.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

LENGTH = 8  # bytes that hold the header's length
FORMS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
ELEMENTS = {"f32": "<f4", "f16": "<f2", "bf16": "<u2"}
EXPONENTS = {"f16": 0x7C00, "bf16": 0x7F80}  # all ones: infinity or not a number
CHUNK = 1 << 20  # elements looked at in one go


@dataclass(frozen=True)
class FileTensor:
    """Describe one tensor of a file; `array` views its elements (bfloat16 as 16-bit integers)."""

    dtype: str
    shape: tuple[int, ...]
    path: Path
    data: memoryview

    @property
    def form(self) -> str:
        """Return the format that blocks of this tensor have.

        Raises InvalidCheckpoint for an element type that is not stored.
        """
        if self.dtype not in FORMS:
            raise InvalidCheckpoint(f"element type {self.dtype} is not F32, F16 or BF16")
        return FORMS[self.dtype]

    @property
    def array(self) -> Array:
        """View the elements, shaped; nothing is read until they are used."""
        return np.frombuffer(self.data, ELEMENTS[self.form]).reshape(self.shape)


def read_tensors(path: Path) -> dict[str, FileTensor]:
    """Map a safetensors file and describe its tensors, by name.

    Raises InvalidCheckpoint when the file is missing, truncated or not a safetensors file.
    """
    _check(path)
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    start = LENGTH + int.from_bytes(view[:LENGTH], "little")
    header = json.loads(bytes(view[LENGTH:start]))
    header.pop("__metadata__", None)
    return {
        name: FileTensor(entry["dtype"], tuple(entry["shape"]), path, _span(view, start, entry))
        for name, entry in header.items()
    }


def is_finite(array: Array, form: str) -> bool:
    """Tell whether no element is infinite or not a number, a piece at a time."""
    return all(_all_finite(piece, form) for piece in _pieces(array.reshape(-1)))


def _pieces(flat: Array) -> Iterator[Array]:
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _all_finite(piece: Array, form: str) -> bool:
    if form == "f32":
        return bool(np.isfinite(piece).all())
    exponent = EXPONENTS[form]
    return bool(((piece.view("<u2") & exponent) != exponent).all())


def _span(view: memoryview, start: int, entry: dict[str, Any]) -> memoryview:
    begin, end = entry["data_offsets"]
    return view[start + begin : start + end]


def _check(path: Path) -> None:
    """Let the library judge the header, the offsets and the file's length."""
    try:
        with safe_open(path, framework="numpy"):
            return
    except FileNotFoundError:
        raise InvalidCheckpoint(
            f"there is no file {path}", hint="Copy the whole model directory again."
        ) from None
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(
            f"{path} is not a whole safetensors file: {error}",
            hint="It may be cut short, or a pointer left by git-lfs. Download or copy it again.",
        ) from error

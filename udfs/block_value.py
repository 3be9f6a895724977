"""A block as a value of SQL: what stands in front of its elements, without NumPy.

magic "pfbk", version, element type, two reserved bytes, rows, columns: 16 bytes; then the
elements, row-major, little endian
"""

import struct

from pageformer.errors import InvalidInput

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct("<4sBBxxII")
MAGIC = b"pfbk"
VERSION = 1
ELEMENTS = {"f32": 0, "f16": 1, "bf16": 2}
FORMS = {code: form for form, code in ELEMENTS.items()}
WIDTHS = {"f32": 4, "f16": 2, "bf16": 2}  # bytes of an element


def pack_block(form: str, rows: int, cols: int, data: Buffer) -> bytes:
    """Write a block as a value of SQL."""
    return HEADER.pack(MAGIC, VERSION, ELEMENTS[form], rows, cols) + data


def unpack_block(value: bytes) -> tuple[str, int, int, memoryview]:
    """Read a block value: its format, rows, columns and elements.

    Raises ValueError when the bytes are not a block value.
    """
    if len(value) < HEADER.size:
        raise ValueError("a block starts with a header of 16 bytes")
    magic, version, element, rows, cols = HEADER.unpack_from(value)
    if magic != MAGIC or version != VERSION or element not in FORMS:
        raise ValueError("these bytes do not start with a block header")
    form = FORMS[element]
    data = memoryview(value)[HEADER.size :]
    if len(data) != rows * cols * WIDTHS[form]:
        raise ValueError(f"a {rows} x {cols} block of {form} does not have {len(data)} bytes")
    return form, rows, cols, data


def read_block(value: bytes | None) -> tuple[str, int, int, memoryview]:
    """Read a block value that a user gave, as unpack_block does.

    Raises InvalidInput when there is none, or the bytes are none.
    """
    if value is None:
        raise InvalidInput("a block is null", hint="leave null out of the array of blocks")
    try:
        return unpack_block(value)
    except ValueError as error:
        raise InvalidInput(
            f"not a block: {error}", hint="make one with pageformer_op.from_array(real[])"
        ) from error

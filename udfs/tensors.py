"""Tensors between SQL and the layers of an encoder, without NumPy: as arrays, or as blocks.

`real[]` comes in by `array_send` (its binary form) and goes out as array text, not element
by element through PL/Python. Blocks are bytes on both sides.
"""

import struct
from array import array
from itertools import accumulate
from math import prod

from pageformer.udfs import threads

with threads.kept_out():
    from pageformer.errors import InvalidInput
    from pageformer.udfs import spi, versions
    from pageformer.udfs.block_value import Buffer, pack_block, read_block

# PostgreSQL's array_send: dimensions, has-null flag, element type; per dimension length and lower
# bound; then per element its length and its bytes, four each; all big endian.
HEAD = struct.Struct(">iiI")
DIMENSION = struct.Struct(">ii")


@spi.boundary
def encode_sent(sent: bytes | None, model: str | None) -> str | None:
    """Run the layers over `[batch, sequence, hidden]`, given by array_send, told as array text."""
    if sent is None:
        return None
    version = versions.ready(versions.resolve(model))
    shape, floats = receive(sent)
    batch, sequence = check(shape, version.config.hidden)
    return to_text(version.layers.texts(floats, [sequence] * batch, spi.pulse), sequence)


@spi.boundary
def encode_blocks(blocks: list[bytes | None] | None, model: str | None) -> list[bytes] | None:
    """Run the layers over sequences, each a block `[rows, hidden]`; answer with such blocks."""
    if blocks is None:
        return None
    version = versions.ready(versions.resolve(model))
    hidden = version.config.hidden
    sequences = [rows_of(block, hidden) for block in blocks]
    lengths = [len(rows) // (4 * hidden) for rows in sequences]
    if not lengths:
        return []
    return cut(version.layers.states(b"".join(sequences), lengths, spi.pulse), lengths, hidden)


def receive(sent: bytes) -> tuple[list[int], bytes]:
    """Read what array_send wrote of a `real[]`: its shape, and its elements as float32.

    Raises InvalidInput when an element is null.
    """
    dimensions, has_null, _ = HEAD.unpack_from(sent)
    if has_null:
        raise InvalidInput("the tensor has a null element", hint="give a number for each element")
    end = HEAD.size + dimensions * DIMENSION.size
    words = array("I", sent[end:])
    words.byteswap()
    shape = [length for length, _ in DIMENSION.iter_unpack(sent[HEAD.size : end])]
    return shape or [0], words[1::2].tobytes()


def check(shape: list[int], hidden: int) -> tuple[int, int]:
    """Return how many sequences there are, and their length.

    Raises InvalidInput when the shape is not `[batch, sequence, hidden]`.
    """
    if len(shape) != 3 or shape[2] != hidden or not prod(shape):
        raise InvalidInput(
            f"the tensor has shape {shape}, not [batch, sequence, {hidden}]",
            hint=f"give real[] of three dimensions, the last one {hidden}",
        )
    return shape[0], shape[1]


def rows_of(block: bytes | None, hidden: int) -> Buffer:
    """Read a sequence's block as float32.

    Raises InvalidInput when it is null, no block, or has no rows of the model's width.
    """
    form, rows, cols, data = read_block(block)
    if not rows or cols != hidden:
        raise InvalidInput(
            f"a block has shape {[rows, cols]}, not [rows, {hidden}]",
            hint=f"give a block for each sequence, of {hidden} columns",
        )
    if form == "f32":
        return data
    with threads.kept_out():
        from pageformer.udfs.blocks import widen  # NumPy, which float32 does without
    return widen(data, form).tobytes()


def cut(states: bytes, lengths: list[int], hidden: int) -> list[bytes]:
    """Make a block of each sequence's rows, which lie one after another."""
    view, width = memoryview(states), 4 * hidden
    return [
        pack_block("f32", length, hidden, view[(end - length) * width : end * width])
        for length, end in zip(lengths, accumulate(lengths), strict=True)
    ]


def to_text(rows: list[str], sequence: int) -> str:
    """Write rows, told as vectors, as the text of a `real[]` of three dimensions."""
    starts = range(0, len(rows), sequence)
    matrices = (",".join(rows[start : start + sequence]) for start in starts)
    listed = f"[[{'],['.join(matrices)}]]"
    return listed.replace("[", "{").replace("]", "}")

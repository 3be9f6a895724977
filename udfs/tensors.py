"""Tensors between SQL arrays and the raw encoder.

`real[]` comes in by `array_send` (its binary form) and goes out as array text, not element
by element through PL/Python.
"""

import struct
from itertools import accumulate, repeat

from pageformer.udfs import threads

with threads.kept_out():  # NumPy, which texts do without
    import numpy as np
    import orjson

    from pageformer.errors import InvalidInput
    from pageformer.udfs import encoder, spi, versions
    from pageformer.udfs.blocks import Array
    from pageformer.udfs.encoding import Pulse
    from pageformer.udfs.model import Model

# PostgreSQL's array_send: dimensions, has-null flag, element type; per dimension length and lower
# bound; then per element its length and its bytes; all big endian.
HEAD = struct.Struct(">iiI")
DIMENSION = struct.Struct(">ii")
ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


@spi.boundary
def encode_sent(sent: bytes | None, model: str | None) -> str | None:
    """Run the encoder over `[batch, sequence, hidden]`, given by array_send, told as array text."""
    if sent is None:
        return None
    version = versions.ready(versions.resolve(model))
    return to_text(encode(version.model, receive(sent), spi.pulse))


def receive(sent: bytes) -> Array:
    """Read what array_send wrote of a `real[]`, of any number of dimensions.

    Raises InvalidInput when an element is null.
    """
    dimensions, has_null, _ = HEAD.unpack_from(sent)
    if has_null:
        raise InvalidInput("the tensor has a null element", hint="give a number for each element")
    end = HEAD.size + dimensions * DIMENSION.size
    shape = [length for length, _ in DIMENSION.iter_unpack(sent[HEAD.size : end])] or [0]
    return np.frombuffer(sent, ELEMENT, offset=end)["value"].astype(np.float32).reshape(shape)


def encode(model: Model, tensor: Array, pulse: Pulse) -> Array:
    """Run the encoder's layers.  # [batch, sequence, hidden] -> the same

    Raises InvalidInput when the tensor does not have that shape.
    """
    hidden = model.config.hidden
    if tensor.ndim != 3 or tensor.shape[2] != hidden or 0 in tensor.shape:
        raise InvalidInput(
            f"the tensor has shape {list(tensor.shape)}, not [batch, sequence, {hidden}]",
            hint=f"give real[] of three dimensions, the last one {hidden}",
        )
    batch, sequence, _ = tensor.shape
    offsets = list(accumulate(repeat(sequence, batch), initial=0))
    x = model.operators.array(tensor.reshape(-1, hidden))
    return model.operators.to_host(encoder.encoder(model, x, offsets, pulse)).reshape(tensor.shape)


def to_text(tensor: Array) -> str:
    """Write a tensor as the text of a `real[]`."""
    listed = orjson.dumps(np.ascontiguousarray(tensor), option=orjson.OPT_SERIALIZE_NUMPY)
    return listed.translate(bytes.maketrans(b"[]", b"{}")).decode()

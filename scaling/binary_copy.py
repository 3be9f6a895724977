"""Vectors as COPY reads them in its binary format.

Header: signature, 32 bits of flags, 32 bits of extension length. A row: the number of its columns
in 16 bits, and each column's length in 32 before its bytes; -1 columns are the end. A vector, as
pgvector's `vector_recv` reads it: dimensions in 16 bits, 16 that are 0, float32s. All big-endian.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

import numpy as np
import orjson

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"
ROW = Struct(">hiii")  # columns, length of the place, place, length of the vector
VECTOR = Struct(">hh")


def rows(vectors: Sequence[str]) -> Iterator[bytes]:
    """Yield the stream of (place integer, vector), places from 1, from vectors as SQL's texts."""
    yield HEADER
    for place, text in enumerate(vectors, start=1):
        vector = np.array(orjson.loads(text), dtype=">f4")
        data = VECTOR.pack(len(vector), 0) + vector.tobytes()
        yield ROW.pack(2, 4, place, len(data)) + data
    yield END

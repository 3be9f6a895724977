"""What backends and the serving process say to each other, over a Unix socket of their user's.

Every frame is a header and a body. Numbers are little-endian.

    header  2  "PF"                      kinds  1  GREETING    JSON, once, from the process
            1  version of the format            2  ENCODE      asks for vectors
            1  kind                             3  VECTORS     answers with them
            4  number of the request            4  FAILED      answers why not, in UTF-8
            4  bytes of the body                5  UNKNOWN     answers: no such version committed
                                                6  STATISTICS  asks with nothing, answers in JSON

    ENCODE  32  hash of the version                         VECTORS  4  tokens up to which it pays
            32  hash of the task, zeros: none                        4  texts
             1  compute, of COMPUTES                                 4  bytes, of each text
             1  what: 0 vectors, 1 states                               the texts, as pgvector reads
             1  normalized: 0 no, 1 yes, 2 as the model
             1  zero
             4  dimensions, 0: all
             4  first tokens that are not pooled
             4  sequences
             4  tokens, of each sequence
             4  id, of each token

Nothing here touches a socket. Whoever reads checks each length against a limit before it waits for
what follows.
"""

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

Name = TypeVar("Name")

FORMAT = 2
MAGIC = b"PF"
GREETING, ENCODE, VECTORS, FAILED, UNKNOWN, STATISTICS = range(1, 7)

MOST_ASKED = 1 << 20  # bytes of a question's body
MOST_ANSWERED = 1 << 28  # bytes of an answer's body

HEADER = struct.Struct("<2sBBII")
ASKED = struct.Struct("<32s32sBBBxIII")
ANSWERED = struct.Struct("<II")
COMPUTES = ("float32", "bfloat16", "auto", "int8")
WHATS = ("vectors", "states")
NORMALIZED = (False, True, None)
NO_TASK = bytes(32)
ALWAYS = (1 << 32) - 1  # tokens: asking pays whatever the length
ANY_TASK = b"\xff" * 32


class Garbled(ValueError):
    """Bytes that are not what this format says."""


class Header(NamedTuple):
    """Hold what stands before a body."""

    kind: int
    number: int
    size: int


@dataclass(frozen=True)
class Asked:
    """Hold what a backend asks for: sequences of token ids, and what to make of them."""

    version: bytes
    compute: str
    what: str
    dimensions: int | None
    normalized: bool | None
    skip: int
    sequences: tuple[Sequence[int], ...]
    task: bytes = NO_TASK

    @property
    def tokens(self) -> int:
        """Count the tokens of all sequences."""
        return sum(map(len, self.sequences))

    @property
    def longest(self) -> int:
        """Return the length of the longest sequence."""
        return max(map(len, self.sequences), default=0)

    @property
    def alike(self) -> "Asked":
        """Return what the questions have in common that can be answered together.

        Those with tasks go together, whatever their tasks are.
        """
        return replace(self, sequences=(), task=NO_TASK if self.task == NO_TASK else ANY_TASK)


class Answered(NamedTuple):
    """Hold an answer: the texts of vectors, and up to which length asking pays."""

    texts: list[str]
    pays_up_to: int


def frame(kind: int, number: int, body: bytes = b"") -> bytes:
    """Write a frame."""
    return HEADER.pack(MAGIC, FORMAT, kind, number, len(body)) + body


def read_header(data: bytes | bytearray, most: int) -> Header:
    """Read the first bytes of a frame; raise Garbled unless it is one of at most `most` bytes."""
    magic, version, kind, number, size = HEADER.unpack_from(data)
    if magic != MAGIC or version != FORMAT:
        raise Garbled(f"this is no frame of format {FORMAT}: {bytes(data[:3])!r}")
    if not GREETING <= kind <= STATISTICS:
        raise Garbled(f"a frame of unknown kind {kind}")
    if size > most:
        raise Garbled(f"a frame of {size} bytes, where {most} are the most")
    return Header(kind, number, size)


def write_asked(asked: Asked) -> bytes:
    """Write the body of ENCODE."""
    head = ASKED.pack(
        asked.version,
        asked.task,
        COMPUTES.index(asked.compute),
        WHATS.index(asked.what),
        NORMALIZED.index(asked.normalized),
        asked.dimensions or 0,
        asked.skip,
        len(asked.sequences),
    )
    ids = [id for sequence in asked.sequences for id in sequence]
    return head + _write_numbers([*map(len, asked.sequences), *ids])


def read_asked(body: bytes) -> Asked:
    """Read the body of ENCODE; raise Garbled when it is not one."""
    if len(body) < ASKED.size or len(body) % 4:
        raise Garbled(f"{len(body)} bytes are no question")
    version, task, compute, what, normalized, dimensions, skip, count = ASKED.unpack_from(body)
    numbers = _read_numbers(body[ASKED.size :])
    lengths = numbers[:count]
    if len(lengths) != count or count + sum(lengths) != len(numbers):
        raise Garbled("the lengths of the sequences do not add up to the frame's")
    sequences, at = [], count
    for length in lengths:
        sequences.append(numbers[at : at + length].tolist())
        at += length
    return Asked(
        version,
        _pick(COMPUTES, compute),
        _pick(WHATS, what),
        dimensions or None,
        _pick(NORMALIZED, normalized),
        skip,
        tuple(sequences),
        task,
    )


def write_answered(answered: Answered) -> bytes:
    """Write the body of VECTORS."""
    texts = [text.encode() for text in answered.texts]
    head = ANSWERED.pack(answered.pays_up_to, len(texts))
    return b"".join([head, _write_numbers([*map(len, texts)]), *texts])


def read_answered(body: bytes) -> Answered:
    """Read the body of VECTORS; raise Garbled when it is not one."""
    if len(body) < ANSWERED.size:
        raise Garbled(f"{len(body)} bytes are no answer")
    pays_up_to, count = ANSWERED.unpack_from(body)
    at = ANSWERED.size + 4 * count
    if at > len(body):
        raise Garbled(f"an answer of {len(body)} bytes cannot have {count} texts")
    lengths = _read_numbers(body[ANSWERED.size : at])
    if at + sum(lengths) != len(body):
        raise Garbled("the lengths of the texts do not add up to the frame's")
    texts = []
    for length in lengths:
        texts.append(body[at : at + length].decode())
        at += length
    return Answered(texts, pays_up_to)


def _pick(names: Sequence[Name], code: int) -> Name:
    if code >= len(names):
        raise Garbled(f"code {code} is not one of {len(names)}")
    return names[code]


def _write_numbers(numbers: list[int]) -> bytes:
    return _little(array("I", numbers)).tobytes()


def _read_numbers(data: bytes) -> "array[int]":
    return _little(array("I", data))


def _little(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

"""What a text costs here with so many processes at work, which share caches and cores.

Seconds are of the processor, so what else runs on the machine meanwhile is not counted.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from os import sched_getaffinity

from pageformer.errors import ServerUnready
from pageformer.scaling import binary_copy
from pageformer.scaling.text_encoder import TextEncoder, open_version

SECONDS = 3.0  # that all are measured together


def core_seconds(
    dsn: str, version: tuple[bytes, str], texts: Sequence[str], processes: int
) -> float:
    """Return the seconds of a core that a text takes while so many processes encode.

    version: hash and compute. texts: what a process encodes at a time. Raises MissingGrant,
    UnknownName, ServerUnready.
    """
    open_version(dsn, *version, alone=True)  # what no process could open is told here
    with ExitStack() as stack:
        probes = [stack.enter_context(probe(dsn, version, texts)) for _ in range(processes)]
        for connection in probes:
            heard(connection)
        for connection in probes:
            connection.send("go")
        return sum(heard(connection) for connection in probes) / processes


def cores() -> int:
    """Count the cores that this process may use."""
    return len(sched_getaffinity(0))


@contextmanager
def probe(dsn: str, version: tuple[bytes, str], texts: Sequence[str]) -> Iterator[Connection]:
    """Start a process that encodes when it is told to; it ends with the block."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, dsn, version, texts), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def answer(asked: Connection, dsn: str, version: tuple[bytes, str], texts: Sequence[str]) -> None:
    """Open the version, tell that it is ready, wait, and tell the seconds that a text takes."""
    encode = open_version(dsn, *version, alone=True)
    encode(texts)
    asked.send(0.0)
    asked.recv()
    asked.send(measured(encode, texts))


def measured(encode: TextEncoder, texts: Sequence[str]) -> float:
    """Return the seconds of the processor that a text takes, made ready to be written."""
    until, computed, rounds = time.monotonic() + SECONDS, time.process_time(), 0
    while not rounds or time.monotonic() < until:
        b"".join(binary_copy.rows(encode(texts).vectors))
        rounds += 1
    return (time.process_time() - computed) / (rounds * len(texts))


def heard(probe: Connection) -> float:
    """Wait for what a process tells; raise ServerUnready where it ended before."""
    try:
        told: float = probe.recv()
    except EOFError as error:
        raise ServerUnready("a process that encodes ended while it was measured") from error
    return told

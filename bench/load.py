"""Queries from many connections: as fast as they are answered, or as Poisson would have them."""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psycopg

from bench.paired import percentiles

QUERY = "select pageformer.encode(%s, 'minilm')"


@dataclass(frozen=True)
class Load:
    """Hold what came of a load: answers a second, what each took, and the processors' seconds."""

    rate: float
    latencies: Sequence[float]
    processors: float

    def figures(self) -> dict[str, float]:
        """Tell rate, median, 99th percentile and what one processor answers in a second."""
        middle, late = percentiles(self.latencies)
        count = len(self.latencies)
        spent = self.processors / count
        return {"rate": self.rate, "p50": middle, "p99": late, "n": count, "spent": spent}


def closed(dsn: str, texts: Sequence[str], connections: int, seconds: float) -> Load:
    """Ask again as soon as there is an answer, from each connection."""
    return asyncio.run(_run(dsn, _always(texts), connections, seconds))


def poisson(dsn: str, texts: Sequence[str], connections: int, seconds: float, rate: float) -> Load:
    """Ask when a Poisson process says so, however long answers take; counted from when it said."""
    return asyncio.run(_run(dsn, _arrivals(texts, rate, seconds), connections, seconds))


Arrival = tuple[float, str]  # seconds from the beginning, 0 for at once; the text


def _always(texts: Sequence[str]) -> Iterator[Arrival]:
    return ((0.0, text) for text in cycle(texts))


def _arrivals(texts: Sequence[str], rate: float, seconds: float) -> Iterator[Arrival]:
    source = random.Random(0)
    at = source.expovariate(rate)
    for text in cycle(texts):
        if at > seconds:
            return
        yield at, text
        at += source.expovariate(rate)


async def _run(dsn: str, arrivals: Iterator[Arrival], connections: int, seconds: float) -> Load:
    sessions = [
        await psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=1)
        for _ in range(connections)
    ]
    for session in sessions:
        for _ in range(3):
            await session.execute(QUERY, ["warm"])
    before = server_seconds()
    begin = time.perf_counter()
    latencies: list[float] = []
    jobs = (_ask(session, arrivals, begin, seconds, latencies) for session in sessions)
    await asyncio.gather(*jobs)
    elapsed = time.perf_counter() - begin
    after = server_seconds()
    processors = sum(after[pid] - before.get(pid, 0.0) for pid in after)
    for session in sessions:
        await session.close()
    return Load(len(latencies) / elapsed, latencies or [float("inf")], processors)


async def _ask(
    session: psycopg.AsyncConnection,
    arrivals: Iterator[Arrival],
    begin: float,
    seconds: float,
    latencies: list[float],
) -> None:
    for at, text in arrivals:
        now = time.perf_counter() - begin
        if at == 0.0 and now > seconds:
            return
        if at > now:
            await asyncio.sleep(at - now)
        asked = begin + (at or now)
        await session.execute(QUERY, [text])
        latencies.append(time.perf_counter() - asked)


def server_seconds() -> dict[int, float]:
    """Return the processors' seconds of each backend and serving process on this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if command.startswith(b"postgres: ") or b"pageformer.serving" in command:
            ticks = int(fields[11]) + int(fields[12])
            found[int(folder.name)] = ticks / os.sysconf("SC_CLK_TCK")
    return found

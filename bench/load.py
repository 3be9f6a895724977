"""Queries from many connections: as fast as they are answered, or as Poisson would have them."""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import psycopg

from bench.paired import percentiles

QUERY = "select pageformer.encode(%s, 'minilm')"
LEAD_SECONDS = 0.5  # of a load that are not counted

Session = psycopg.AsyncConnection
Arrival = tuple[float, str]  # seconds from the beginning, 0 for at once; the text


@dataclass(frozen=True)
class Load:
    """Hold what came of a load: answers a second, what each took, and the processors' seconds."""

    rate: float
    latencies: Sequence[float]
    processors: float

    def figures(self) -> dict[str, float]:
        """Tell rate, median, 99th percentile and a text's seconds of processors."""
        middle, late = percentiles(self.latencies)
        count = len(self.latencies)
        spent = self.processors / count
        return {"rate": self.rate, "p50": middle, "p99": late, "n": count, "spent": spent}


class Crowd:
    """Connections that stay open from one load to the next."""

    def __init__(self, runner: asyncio.Runner, sessions: Sequence[Session]) -> None:
        self._runner, self._sessions = runner, sessions

    def closed(self, texts: Sequence[str], seconds: float) -> Load:
        """Ask again as soon as there is an answer, from each connection."""
        self._runner.run(self._ask_all(_always(texts), LEAD_SECONDS))
        return self._runner.run(self._measured(_always(texts), seconds))

    def poisson(self, texts: Sequence[str], seconds: float, rate: float) -> Load:
        """Ask when a Poisson process says so, however long answers take; counted from then."""
        self._runner.run(self._warm())
        return self._runner.run(self._measured(_arrivals(texts, rate, seconds), seconds))

    async def _measured(self, arrivals: Iterator[Arrival], seconds: float) -> Load:
        before, begin = server_seconds(), time.perf_counter()
        latencies = await self._ask_all(arrivals, seconds)
        elapsed, after = time.perf_counter() - begin, server_seconds()
        processors = sum(after[pid] - before.get(pid, 0.0) for pid in after)
        return Load(len(latencies) / elapsed, latencies or [float("inf")], processors)

    async def _ask_all(self, arrivals: Iterator[Arrival], seconds: float) -> list[float]:
        begin = time.perf_counter()
        jobs = (_ask(session, arrivals, begin, seconds) for session in self._sessions)
        return [latency for own in await asyncio.gather(*jobs) for latency in own]

    async def _warm(self) -> None:
        for session in self._sessions:
            await session.execute(QUERY, ["warm"])


@contextmanager
def crowd(dsn: str, connections: int) -> Iterator[Crowd]:
    """Open connections, and let each encode once."""
    with asyncio.Runner() as runner:
        sessions = [runner.run(_opened(dsn)) for _ in range(connections)]
        try:
            yield Crowd(runner, sessions)
        finally:
            for session in sessions:
                runner.run(session.close())


async def _opened(dsn: str) -> Session:
    session = await Session.connect(dsn, autocommit=True, prepare_threshold=1)
    for _ in range(3):
        await session.execute(QUERY, ["warm"])
    return session


async def _ask(
    session: Session, arrivals: Iterator[Arrival], begin: float, seconds: float
) -> list[float]:
    latencies = []
    for at, text in arrivals:
        now = time.perf_counter() - begin
        if at == 0.0 and now > seconds:
            break
        if at > now:
            await asyncio.sleep(at - now)
        asked = begin + (at or now)
        await session.execute(QUERY, [text])
        latencies.append(time.perf_counter() - asked)
    return latencies


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

"""Ray beside the plain path at equal cores, where the time goes, and what the simulator foretold.

`python -m bench.scale [TEXTS]`, 100,000 unless told otherwise; it takes the extra `ray`.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.server import Server, server
from pageformer import embed
from pageformer.embedded_column import Request
from pageformer.scaling import ray_engine
from pageformer.scaling.item import Done
from pageformer.scaling.simulation import Item, Setting, simulate

RESULTS = Path(__file__).parent / "results" / "scale.md"
DOC = Request("doc", "body", "embedding", "minilm")
BATCH = 256
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Hold what a run took: seconds from its first item on, and of all processors."""

    texts: int
    seconds: float
    processor: float
    done: Done

    @property
    def rate(self) -> float:
        """Return texts a second."""
        return self.texts / self.seconds


def prepare(running: Server, count: int) -> None:
    """Fill a table with short texts."""
    with running.connect() as connection:
        connection.execute("create table doc (id integer primary key, body text, embedding vector)")
        connection.execute(
            "insert into doc select n, 'short text number ' || n || repeat(' of words', n %% 9) "
            "from generate_series(1, %s) n",
            [count],
        )


def run(running: Server, workers: int, on_ray: bool) -> Run:
    """Embed the table anew."""
    with running.connect() as connection:
        connection.execute("truncate pageformer.embedded_column cascade")
        connection.execute("update doc set embedding = null")
        connection.execute("vacuum doc")
    told: list[tuple[int, float]] = []
    sums: list[Done] = [Done()]

    def progress(done: int, total: int) -> None:
        told.append((done, time.perf_counter()))

    begun = processor(running)
    if on_ray:
        ray_engine.embed(
            running.cluster.dsn, DOC, workers=workers, batch=BATCH, progress=progress,
            tell=sums.append,
        )  # fmt: skip
    else:
        embed.embed(running.cluster.dsn, DOC, workers=workers, batch=BATCH, progress=progress)
    used = processor(running) - begun + sums[-1].processor
    first = next(i for i, (done, _) in enumerate(told) if done)
    texts, seconds = told[-1][0] - told[first][0], told[-1][1] - told[first][1]
    return Run(texts, seconds, used, sums[-1])


def processor(running: Server) -> float:
    """Return the seconds of processors that this process and the server with all its own took."""
    postmaster = (running.cluster.data_directory / "postmaster.pid").read_text().split()[0]
    parent = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()
    ended = sum(map(int, parent[11:15]))
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    alive = sum(own_ticks(child) for child in children)
    return time.process_time() + (ended + alive) / TICK


def own_ticks(process: str) -> int:
    """Return a process's own ticks; 0 when it has ended meanwhile."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, stat[11:13]))


def foretold(one: Run, workers: int, cores: int) -> float:
    """Return the texts a second that the simulator expects, from what one worker took."""
    items = one.texts / BATCH
    parts = one.done.reading, one.done.encoding, one.done.writing
    reading, encoding, writing = (part / (one.done.rows / BATCH) for part in parts)
    item = Item(0.001, reading, encoding, writing)
    setting = Setting(1, workers, cores, cores, apart=False, stragglers=0.0)
    return one.texts / simulate(item, setting, round(items)).seconds


def lines(running: Server, cores: int) -> list[str]:
    """Measure everything once."""
    say: Callable[[str], None] = lambda line: print(line, flush=True)  # noqa: E731
    plain = run(running, cores, on_ray=False)
    ray = {workers: run(running, workers, on_ray=True) for workers in (1, 2, 4)}
    equal = ray[cores] if cores in ray else ray[2]
    done = equal.done
    whole = done.reading + done.encoding + done.writing
    found = [
        f"| plain path, {cores} connections, texts/s | {plain.rate:.0f} |",
        f"| Ray, {cores} workers, texts/s | {equal.rate:.0f} |",
        f"| Ray's time beside the plain path's, equal cores | {plain.rate / equal.rate:.2f} x |",
        f"| Ray's processor seconds beside the plain path's | "
        f"{equal.processor / plain.processor:.2f} x |",
        f"| share of reading, encoding, writing | {done.reading / whole:.1%}, "
        f"{done.encoding / whole:.1%}, {done.writing / whole:.1%} |",
    ]
    for workers, one in ray.items():
        expected = foretold(ray[1], workers, cores)
        found.append(
            f"| simulator for {workers} workers, texts/s: foretold, measured | {expected:.0f}, "
            f"{one.rate:.0f} ({expected / one.rate - 1:+.0%}) |"
        )
    for line in found:
        say(line)
    return found


def main() -> None:
    """Write the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    cores = len(os.sched_getaffinity(0))
    with server() as running:
        prepare(running, count)
        found = lines(running, cores)
    head = [f"| {count:,} short texts, all-MiniLM-L6-v2, {cores} cores | |", "| --- | --- |"]
    RESULTS.write_text("\n".join([*head, *found, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

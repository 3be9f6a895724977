"""Ray beside the plain path at equal cores, and where the time goes.

`python -m bench.scale [TEXTS]`, 100,000 unless told otherwise, adds a row to the table of results;
it takes the extra `ray`.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.server import Server, server
from pageformer import embed
from pageformer.embedded_column import Request
from pageformer.scaling import ray_engine
from pageformer.scaling.item import Done

RESULTS = Path(__file__).parent / "results" / "scale.md"
DOC = Request("doc", "body", "embedding", "minilm")
BATCH = 256
COLUMNS = (
    "texts", "plain path, s", "Ray, its start included, s", "beside it",
    "processor seconds beside it", "reading, encoding, writing on Ray",
)  # fmt: skip
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Run:
    """Hold what a run took: seconds, its own and of processors; texts a second after a tenth."""

    seconds: float
    rate: float
    processor: float
    done: Done


def prepare(running: Server, count: int) -> None:
    """Fill a table with texts as short as titles."""
    with running.connect() as connection:
        connection.execute("create table doc (id integer primary key, body text, embedding vector)")
        connection.execute(
            "insert into doc select n, 'text number ' || n || repeat(' of words', n %% 3) "
            "from generate_series(1, %s) n",
            [count],
        )
        connection.execute("vacuum analyze doc")


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

    begun, begun_at = processor(running), time.perf_counter()
    if on_ray:
        ray_engine.embed(
            running.cluster.dsn, DOC, workers=workers, batch=BATCH, progress=progress,
            tell=sums.append,
        )  # fmt: skip
    else:
        embed.embed(running.cluster.dsn, DOC, workers=workers, batch=BATCH, progress=progress)
    used = processor(running) - begun + sums[-1].processor
    return Run(time.perf_counter() - begun_at, rate(told), used, sums[-1])


def rate(told: list[tuple[int, float]]) -> float:
    """Return texts a second after the first tenth, when whatever had to start has started."""
    (first, since), (last, until) = next(one for one in told if one[0] > told[-1][0] / 10), told[-1]
    return (last - first) / (until - since)


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


def pair(running: Server, cores: int) -> str:
    """Measure one after the other, and write a row of the table."""
    plain, ray = run(running, cores, on_ray=False), run(running, cores, on_ray=True)
    done = ray.done
    whole = done.reading + done.encoding + done.writing
    shares = [f"{part / whole:.1%}" for part in (done.reading, done.encoding, done.writing)]
    return (
        f"| {done.rows:,} | {plain.seconds:.1f} | {ray.seconds:.1f} "
        f"| {ray.seconds / plain.seconds:.2f} x "
        f"| {ray.processor / plain.processor:.2f} x | {', '.join(shares)} |"
    )


def head(cores: int) -> str:
    """Write the table's head."""
    said = f"all-MiniLM-L6-v2 in float32, {cores} cores: so many connections, or workers on Ray."
    rule = "| --- " * len(COLUMNS)
    return f"{said} A row for each run.\n\n| {' | '.join(COLUMNS)} |\n{rule}|\n"


def main() -> None:
    """Add a row to the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    cores = len(os.sched_getaffinity(0))
    with server() as running:
        prepare(running, count)
        found = pair(running, cores)
    if not RESULTS.exists():
        RESULTS.write_text(head(cores), encoding="utf-8")
    with RESULTS.open("a", encoding="utf-8") as results:
        print(found, file=results)
    print(found)


if __name__ == "__main__":
    main()

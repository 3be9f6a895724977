"""What `pageformer plan` foretells for workers on this machine, beside what they then took.

`python -m bench.foretold [TEXTS]`, 50,000 unless told otherwise; it takes the extra `ray`. The
rates are those of a plan: of encoding, so many processes at once for some seconds, and of the
database.
"""

import os
import sys
from pathlib import Path

from bench.scale import prepare, run
from bench.server import Server, server
from pageformer.scaling.plan import BATCH, Rates, measure
from pageformer.scaling.simulation import Setting, simulate

RESULTS = Path(__file__).parent / "results" / "foretold.md"
WORKERS = (1, 2, 4)


def sample(running: Server) -> list[str]:
    """Take the texts of one item, from all over the table."""
    query = "select body from doc order by hashint4(id) limit %s"
    with running.connect() as connection:
        return [text for (text,) in connection.execute(query, [BATCH])]


def foretold(rates: Rates, count: int, workers: int, cores: int) -> float:
    """Return the texts a second of a simulated queue, where the database shares the cores."""
    setting = Setting(1, workers, cores, cores, apart=False, stragglers=0.0)
    return count / simulate(rates.item(), setting, round(count / BATCH)).seconds


def row(running: Server, texts: list[str], count: int, workers: int, cores: int) -> str:
    """Foretell, measure, and write a row of the table."""
    rates = measure(running.cluster.dsn, "minilm", texts, workers)
    expected = foretold(rates, count, workers, cores)
    found = run(running, workers, on_ray=True)
    return (
        f"| {workers} | {rates.encoding * 1e3:.3f} | {found.done.processor / count * 1e3:.3f} "
        f"| {(rates.reading + rates.writing) * 1e3:.3f} "
        f"| {expected:.0f} | {found.rate:.0f} | {expected / found.rate - 1:+.0%} |"
    )


def main() -> None:
    """Write the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    cores = len(os.sched_getaffinity(0))
    lines = [
        f"{count:,} short texts, all-MiniLM-L6-v2 in float32, {cores} cores, the database's too.",
        "",
        "| workers | encoding, ms of a core a text, so many at work | a worker's, in the run | "
        "the database's | foretold, texts/s | measured | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    with server() as running:
        prepare(running, count)
        texts = sample(running)
        for workers in WORKERS:
            lines.append(row(running, texts, count, workers, cores))
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

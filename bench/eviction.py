"""Compare the page cache's policies with the best that knows the future.

`python -m bench.eviction` writes the table. Sixteen versions of 100 pages, a fifth of them in all.
"""

from collections.abc import Iterator
from pathlib import Path

from bench.simulator import belady, simulate
from bench.traces import Trace, scan, versions, zipf
from pageformer.udfs.page_cache.eviction import POLICIES

RESULTS = Path(__file__).parent / "results" / "eviction.md"
SEEDS = range(3)
ROOM = (0.1, 0.25, 0.5)  # the cache, as part of all pages
DRIFT = 100  # requests, after which the favourite changes
CONDITIONS = f"""\
Hit ratios of pages: 16 versions of 100 pages, 20 of them in all; 2,000 requests, each for all pages
of a version; the mean of seeds {min(SEEDS)} to {max(SEEDS)}. The cache is a part of the 1,300
pages. Belady's optimum knows the future, and may keep a page out (bypass); distance: from
`sharing` to it."""


def traces() -> Iterator[tuple[str, list[Trace]]]:
    """Yield the traces of each kind, one per seed."""
    pages = versions()
    yield "Zipf 1.0", [zipf(seed, pages) for seed in SEEDS]
    yield (
        f"Zipf 1.0, ranks move on every {DRIFT}",
        [zipf(seed, pages, drift=DRIFT) for seed in SEEDS],
    )
    yield "a scan, again and again", [scan(pages)]


def row(name: str, room: float, some: list[Trace]) -> str:
    """Measure hit ratios, averaged over traces."""

    def mean(ratios: Iterator[float]) -> float:
        return sum(ratios) / len(some)

    capacity = round(room * some[0].size)
    found = {p: mean(simulate(trace, capacity, p) for trace in some) for p in POLICIES}
    best = mean(belady(trace, capacity) for trace in some)
    cells = [f"{found[policy]:.1%}" for policy in POLICIES]
    return " | ".join(
        [f"| {name}", f"{room:.0%}", *cells, f"{best:.1%}", f"{best - found['sharing']:.1%} |"]
    )


def main() -> None:
    """Write the table."""
    head = ["trace", "cache", *(f"`{policy}`" for policy in POLICIES), "Belady", "distance"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, some in traces():
        for room in ROOM:
            lines.append(row(name, room, some))
            print(lines[-1], flush=True)
    lines += ["", CONDITIONS, ""]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()

"""How finding like blocks grows with the blocks that are stored: `python -m bench.similar`.

Writes bench/results/similar.md.
"""

import time
from pathlib import Path

import numpy as np

from bench.conditions import conditions
from pageformer.dedup.lsh import candidates, nearest, signatures

SIDE = 32
COUNTS = (3125, 6250, 12_500, 25_000, 50_000, 100_000)
MOVED = 0.05  # of its length
RESULTS = Path(__file__).parent / "results" / "similar.md"
HEAD = (
    "| blocks stored and looked for | signatures, s | candidates, s | verifying, s | µs each "
    "| candidates each | found |\n" + "|---" * 7 + "|"
)


def main() -> None:
    """Look up as many moved blocks as are stored, print the table and write it."""
    lines = [HEAD]
    for count in COUNTS:
        lines.append("| " + " | ".join(row(count)) + " |")
        print(lines[-1], flush=True)
    lines += ["", conditions().partition(" Median")[0], ""]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")


def row(count: int) -> list[str]:
    """Measure one size."""
    random = np.random.default_rng(count)
    stored = random.normal(0, 0.05, (count, SIDE, SIDE)).astype(np.float32)
    noise = random.normal(0, 0.05 * MOVED, stored.shape).astype(np.float32)
    wanted = stored + noise
    begin = time.perf_counter()
    parts = [slice(i, i + 1024) for i in range(0, count, 1024)]
    theirs, ours = (
        np.concatenate([signatures(blocks[part]) for part in parts]) for blocks in (stored, wanted)
    )
    signed = time.perf_counter()
    found = candidates(ours, theirs)
    matched = time.perf_counter()
    hits = 0
    for number, near in enumerate(found):
        if near:
            best, _ = nearest(wanted[number], [stored[i] for i in near])
            hits += near[best] == number
    done = time.perf_counter()
    times = (signed - begin, matched - signed, done - matched)
    return [
        f"{count:,}",
        *(f"{seconds:.2f}" for seconds in times),
        f"{1e6 * (done - begin) / count:.0f}",
        f"{sum(map(len, found)) / count:.3f}",
        f"{hits / count:.4f}",
    ]


if __name__ == "__main__":
    main()

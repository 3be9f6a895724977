"""Two ways of doing one thing, by turns, so that a noisy machine is noisy for both."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Run = Callable[[], None]


@dataclass(frozen=True)
class Pairs:
    """Hold the seconds of paired runs: ours and the peer's."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times faster than the peer each of our runs was."""
        return [peer / ours for ours, peer in zip(self.ours, self.peer, strict=True)]

    def __str__(self) -> str:
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def seconds(run: Run) -> float:
    """Time one run."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def pairs(ours: Run, peer: Run, count: int = 5) -> Pairs:
    """Run both `count` times by turns, after one run each that is not counted."""
    ours(), peer()
    timed = [(seconds(ours), seconds(peer)) for _ in range(count)]
    return Pairs(tuple(a for a, _ in timed), tuple(b for _, b in timed))


def percentiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(samples)
    return statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]

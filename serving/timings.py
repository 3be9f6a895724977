"""What batches cost here: a table of measured seconds, by tokens and by the longest sequence."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

LENGTHS = (8, 32, 128, 512)
TOKENS = (8, 32, 128, 256, 512)
ENOUGH = 1.0  # seconds that measuring may take
PAYS = 1.25  # how many times cheaper a text must be in company

Run = Callable[[Sequence[Sequence[int]]], object]  # encodes sequences in the caller's thread alone


class Timings:
    """Tell what a batch costs, by interpolation between measured ones.

    measured: longest -> (tokens, seconds) of batches of sequences that long, tokens ascending.
    """

    def __init__(self, measured: dict[int, list[tuple[int, float]]] | None = None) -> None:
        # Before anything was measured: as if each batch cost some tokens beside its own.
        self._rows = measured or {1: [(0, 12e-6), (1, 13e-6)]}
        self._lengths = sorted(self._rows)

    def cost(self, tokens: int, longest: int) -> float:
        """Tell the seconds that a batch of so many tokens takes."""
        at = min(bisect_left(self._lengths, longest), len(self._lengths) - 1)
        return interpolate(self._rows[self._lengths[at]], tokens)

    def pays_up_to(self, batch: int) -> int:
        """Return the length up to which a text is cheaper in a batch of `batch` tokens."""
        found = 0
        for length in range(4, self._lengths[-1] + 1, 4):
            alone, shared = self.cost(length, length), self.cost(batch, length) * length / batch
            if alone < PAYS * shared:
                break
            found = length
        return found


def interpolate(points: Sequence[tuple[int, float]], x: int) -> float:
    """Read a line through points, ascending by x, going on at either end."""
    if len(points) == 1:
        return points[0][1] * x / points[0][0]
    at = min(max(bisect_left(points, x, key=lambda point: point[0]), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[at - 1], points[at]
    return max(0.0, y0 + (y1 - y0) * (x - x0) / (x1 - x0))


def measure(run: Run, longest: int, vocabulary: int, clock: Callable[[], float]) -> Timings:
    """Measure batches of several shapes, the small ones first, as far as time allows.

    clock: thread_time where all is computed in this thread: it does not count others' work.
    """
    run([[1 % vocabulary]])
    rows: dict[int, list[tuple[int, float]]] = {}
    begun = clock()
    for tokens in TOKENS:
        for length in LENGTHS:
            if length > min(tokens, longest) or clock() - begun > ENOUGH:
                continue
            sequences = [[i % vocabulary for i in range(length)]] * (tokens // length)
            before = clock()
            run(sequences)
            rows.setdefault(length, []).append((tokens, clock() - before))
    return Timings({length: row for length, row in rows.items() if len(row) > 1} or rows)

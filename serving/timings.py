"""What batches cost here, measured once for each version: a line through batches of several shapes.

    seconds = fixed + tokens * (token + attention * longest)

`fixed` is what joining requests saves: on a CPU the reading of weights, on a device the launches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from pageformer.udfs import threads

LENGTHS = (4, 8, 16, 32, 64, 128, 256)
TOGETHER = 256  # tokens
ENOUGH = 1.0  # seconds that measuring may take
ASKING = 0.4e-3  # seconds of processors that asking takes of both ends, by bench/serving.py

Run = Callable[[Sequence[Sequence[int]]], object]  # encodes sequences in the caller's thread alone
Measured = tuple[int, int, float]  # tokens, the longest sequence, seconds


@dataclass(frozen=True)
class Timings:
    """Tell what a batch costs, in seconds; before anything was measured, by a guess."""

    fixed: float = 12e-6
    token: float = 1e-6
    attention: float = 0.0
    savings: tuple[tuple[int, float], ...] = ()  # length, seconds that much company saves a text

    def cost(self, tokens: int, longest: int) -> float:
        """Tell the seconds that a batch of so many tokens takes."""
        return self.fixed + tokens * (self.token + self.attention * longest)

    def pays_up_to(self, together: float) -> int:
        """Return the length up to which a text costs less here, asking counted, than by itself.

        together: requests that one of them is computed with, itself counted.
        """
        paying = takewhile(lambda saving: saving[1] * (1 - 1 / together) > ASKING, self.savings)
        return max((length for length, _ in paying), default=0)


def measure(run: Run, longest: int, vocabulary: int, clock: Callable[[], float]) -> Timings:
    """Measure sequences of several lengths, alone and together, as far as time allows.

    clock: of this thread, where all is computed in it: it does not count others' work.
    """

    def seconds(sequences: Sequence[Sequence[int]]) -> float:
        before = clock()
        run(sequences)
        return clock() - before

    sequence = [i % vocabulary for i in range(max(LENGTHS))]
    seconds([sequence[:1]])
    measured: list[Measured] = []
    begun = clock()
    for length in LENGTHS:
        if measured and (length > longest > 0 or clock() - begun > ENOUGH):
            break
        for count in (1, TOGETHER // length):
            batch = [sequence[:length]] * count
            measured.append((length * count, length, min(seconds(batch) for _ in range(2))))
    return replace(fit(measured), savings=savings(measured))


def savings(measured: Sequence[Measured]) -> tuple[tuple[int, float], ...]:
    """Tell for each length what a text costs less in the largest batch than alone."""
    by_length: dict[int, list[float]] = {}
    for tokens, length, seconds in measured:
        by_length.setdefault(length, []).append(seconds * length / tokens)
    return tuple((length, each[0] - each[-1]) for length, each in by_length.items())


def fit(measured: Sequence[Measured]) -> Timings:
    """Draw the line, by least squares of relative errors; nothing costs less than nothing."""
    with threads.kept_out():
        import numpy as np
    tokens, longest, seconds = np.array(measured, float).T
    terms = np.stack([np.ones_like(tokens), tokens, tokens * longest], axis=1)
    found = np.zeros(3)
    used = [0, 1, 2]
    while used:
        solved = np.linalg.lstsq(terms[:, used] / seconds[:, None], np.ones_like(seconds))[0]
        if (solved >= 0).all():
            found[used] = solved
            break
        used.pop(int(solved.argmin()))
    fixed, token, attention = found.tolist()
    return Timings(fixed, token, attention)

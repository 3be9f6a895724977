"""What tasks cost in batches on the running machine, measured once and fitted by least squares.

    seconds = batch + token * tokens + square * tokens^2
              + sum over tasks (fixed + row * the task's tokens)

The shared part is measured without tasks, and each kind by what it adds to that. Errors count by
the share of a batch's seconds that they are.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import median

import numpy as np

from pageformer.udfs.tasks.cuts import Cost, TaskCost

SHAPES = ((1, 16), (1, 64), (4, 32), (8, 32), (16, 32), (24, 32), (32, 32), (10, 96))
REPEATED = 3  # times that each shape is measured: so many sequences of so many tokens

Seconds = Callable[[Sequence[int], int], float]  # tokens of sequences, tasks -> seconds


def fit(shared: Callable[[Sequence[int]], float], kinds: Mapping[str, Seconds]) -> Cost:
    """Measure and fit the cost of batches.

    shared: computes sequences of so many tokens without a task, and tells the seconds. kinds: the
    same with so many tasks of a kind, the sequences being shared out among them.
    """
    lengths = [[tokens] * count for count, tokens in SHAPES]
    alone = [typical(lambda own=own: shared(own)) for own in lengths]  # type: ignore[misc]
    tokens = [float(sum(own)) for own in lengths]
    batch, token, square = not_negative([[1.0, n, n**2] for n in tokens], alone, alone)
    found = {kind: fit_kind(lengths, alone, run) for kind, run in kinds.items()}
    return Cost(batch, token, found, square=square)


def fit_kind(lengths: Sequence[Sequence[int]], alone: Sequence[float], run: Seconds) -> TaskCost:
    """Fit what a kind adds, for one task and for as many as there are sequences."""
    terms, added, whole = [], [], []
    for own, seconds in zip(lengths, alone, strict=True):
        for tasks in {1, len(own)}:
            terms.append([float(tasks), float(sum(own))])
            added.append(typical(lambda own=own, tasks=tasks: run(own, tasks)) - seconds)  # type: ignore[misc]
            whole.append(seconds)
    return TaskCost(*not_negative(terms, added, whole))


def not_negative(
    terms: Sequence[Sequence[float]], seconds: Sequence[float], whole: Sequence[float]
) -> list[float]:
    """Solve for coefficients by least squares, in shares of `whole`; nothing costs less than 0.

    The best of all choices of coefficients that are not 0, since there are few.
    """
    matrix, wanted = np.array(terms) / np.array(whole)[:, None], np.array(seconds) / whole
    numbers = range(matrix.shape[1])
    chosen = [list(c) for n in numbers for c in combinations(numbers, n + 1)]
    tried = [np.zeros(matrix.shape[1]) for _ in [(), *chosen]]
    for found, own in zip(tried, chosen, strict=False):
        found[own] = np.linalg.lstsq(matrix[:, own], wanted)[0]
    good = [found for found in tried if (found >= 0).all()]
    best: list[float] = min(good, key=lambda x: np.square(matrix @ x - wanted).sum()).tolist()
    return best


def typical(run: Callable[[], float]) -> float:
    """Return the median seconds of some runs, behind one that is not counted."""
    run()
    return median(run() for _ in range(REPEATED))

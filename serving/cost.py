"""What tasks cost in batches on the running machine, measured once and fitted by least squares.

    seconds = batch + token * tokens + sum over tasks (fixed + row * the task's tokens)

The shared part is measured without tasks, and each kind by what it adds to that.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pageformer.udfs.tasks.cuts import Cost, TaskCost

SHAPES = ((1, 16), (1, 64), (4, 32), (8, 32), (16, 32), (8, 96))  # sequences, tokens of each
REPEATED = 3

Seconds = Callable[[Sequence[int], int], float]  # tokens of sequences, tasks -> seconds


def fit(shared: Callable[[Sequence[int]], float], kinds: Mapping[str, Seconds]) -> Cost:
    """Measure and fit the cost of batches.

    shared: computes sequences of so many tokens without a task, and tells the seconds. kinds: the
    same with so many tasks of a kind, the sequences being shared out among them.
    """
    lengths = [[tokens] * count for count, tokens in SHAPES]
    alone = [best(lambda own=own: shared(own)) for own in lengths]  # type: ignore[misc]
    batch, token = line([sum(own) for own in lengths], alone)
    return Cost(batch, token, {kind: fit_kind(lengths, alone, run) for kind, run in kinds.items()})


def fit_kind(lengths: Sequence[Sequence[int]], alone: Sequence[float], run: Seconds) -> TaskCost:
    """Fit what a kind adds, for one task and for as many as there are sequences."""
    terms, added = [], []
    for own, seconds in zip(lengths, alone, strict=True):
        for tasks in {1, len(own)}:
            terms.append([float(tasks), float(sum(own))])
            added.append(best(lambda own=own, tasks=tasks: run(own, tasks)) - seconds)  # type: ignore[misc]
    return TaskCost(*not_negative(terms, added))


def line(tokens: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit seconds = batch + token * tokens."""
    batch, token = not_negative([[1.0, float(n)] for n in tokens], seconds)
    return batch, token


def not_negative(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, float]:
    """Solve for two coefficients by least squares; nothing costs less than nothing."""
    matrix, wanted = np.array(terms), np.array(seconds)
    first, second = np.linalg.lstsq(matrix, wanted)[0].tolist()
    if first >= 0 and second >= 0:
        return first, second
    one = [max(float(column @ wanted / (column @ column)), 0.0) for column in matrix.T]
    left = [float(np.square(matrix[:, i] * one[i] - wanted).sum()) for i in (0, 1)]
    return (one[0], 0.0) if left[0] < left[1] else (0.0, one[1])


def best(run: Callable[[], float]) -> float:
    """Return the least seconds of some runs, behind one that is not counted."""
    run()
    return min(run() for _ in range(REPEATED))

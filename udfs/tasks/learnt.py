"""What batches cost on the running machine, learnt from those that are computed anyway.

Least squares of relative errors, drawn towards the guess that Cost() is: what was hardly seen yet
costs about what is guessed, in this machine's seconds.
"""

from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from pageformer.udfs.tasks.cuts import UNKNOWN, Cost, Request, TaskCost, by_task

GUESS = Cost()
SHARED = 3  # numbers of what all batches cost: batch, token, square
TRUST = 0.5  # in the guess of one number, in batches seen


class Learnt:
    """Learn from the seconds that batches took, in whatever thread; forget nothing."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kinds: list[str] = []
        self._squares: npt.NDArray[np.float64] = np.zeros((SHARED, SHARED))
        self._sums: npt.NDArray[np.float64] = np.zeros(SHARED)
        self._seconds = self._guessed = 0.0

    @property
    def cost(self) -> Cost:
        """Return what batches cost: in seconds, or as guessed while none was seen."""
        with self._lock:
            return self._solved() if self._seconds else GUESS

    def _solved(self) -> Cost:
        kinds = len(self._kinds)
        guess = np.array([GUESS.batch, GUESS.token, GUESS.square, *kinds * UNKNOWN])
        guess *= self._seconds / self._guessed
        squares = self._squares + np.diag(TRUST / guess**2)
        found = np.maximum(np.linalg.solve(squares, self._sums + TRUST / guess), 0.0).tolist()
        batch, token, square, *own_costs = found
        pairs = zip(self._kinds, own_costs[::2], own_costs[1::2], strict=True)
        other = TaskCost(*(one * self._seconds / self._guessed for one in UNKNOWN))
        kinds_costs = {kind: TaskCost(*own) for kind, *own in pairs}
        return Cost(batch, token, kinds_costs, other, square)

    def add(self, requests: Sequence[Request], seconds: float) -> None:
        """Learn from one batch."""
        if seconds <= 0 or not requests:
            return
        with self._lock:
            terms = self._terms(requests) / seconds
            self._squares += np.outer(terms, terms)
            self._sums += terms
            self._seconds += seconds
            self._guessed += GUESS.of_batch(requests)

    def _terms(self, requests: Sequence[Request]) -> npt.NDArray[np.float64]:
        """Tell what a batch has of all that costs."""
        for kind in {request.kind for request in requests} - {None, *self._kinds}:
            self._kinds.append(kind or "")
            self._squares = np.pad(self._squares, (0, 2))
            self._sums = np.pad(self._sums, (0, 2))
        terms = np.zeros(len(self._sums))
        tokens = sum(request.tokens for request in requests)
        terms[:SHARED] = 1.0, tokens, tokens**2
        for i, kind in enumerate(self._kinds):
            own = [request for request in requests if request.kind == kind]
            terms[SHARED + 2 * i :][:2] = len(by_task(own)), sum(request.tokens for request in own)
        return terms

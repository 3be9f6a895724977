"""What batches of requests cost, and how an order of requests is cut into batches at least cost.

    cost of a batch = batch + token * tokens + square * tokens^2
                      + sum over its tasks (fixed + row * its tokens)

after PetS (Zhou et al. 2022, coordinated batch scheduling), without padding: what is shared costs
by tokens, and each task of a batch costs something however few rows it has. The square is what a
batch costs more that is too large for the caches.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Batches = list[list[int]]  # numbers of requests


class Request(NamedTuple):
    """Describe a sequence that waits: its tokens, and its task and that one's kind, if any."""

    tokens: int
    task: Hashable = None
    kind: str | None = None


class TaskCost(NamedTuple):
    """Tell what a task costs in a batch: once, and for each of its rows."""

    fixed: float
    row: float


UNKNOWN = TaskCost(2.0, 0.1)


@dataclass(frozen=True)
class Cost:
    """Tell what a batch costs, in the time that one token of shared work takes by default."""

    batch: float = 40.0
    token: float = 1.0
    kinds: Mapping[str, TaskCost] = field(default_factory=dict)
    other: TaskCost = UNKNOWN  # of a kind that was not measured
    square: float = 5e-5

    def of_task(self, request: Request) -> TaskCost:
        """Return what a request's task costs."""
        if request.task is None:
            return TaskCost(0.0, 0.0)
        return self.kinds.get(request.kind or "", self.other)

    def of_batch(self, requests: Sequence[Request]) -> float:
        """Return what requests cost together."""
        tokens = sum(r.tokens for r in requests)
        shared = self.batch + self.token * tokens + self.square * tokens**2
        rows = sum(r.tokens * self.of_task(r).row for r in requests)
        return shared + rows + sum(self.of_task(r).fixed for r in by_task(requests))

    def keeps(self, tokens: int) -> bool:
        """Tell whether so many tokens cost no more together than in several batches."""
        return self.square * tokens**2 <= 2 * self.batch

    def of_plan(self, requests: Sequence[Request], batches: Batches) -> float:
        """Return what batches cost one after another."""
        return sum(self.of_batch([requests[i] for i in members]) for members in batches)


def by_task(requests: Sequence[Request]) -> list[Request]:
    """Return one request of each task."""
    return list({request.task: request for request in requests}.values())


def ranks(requests: Sequence[Request]) -> list[tuple[int, int]]:
    """Say where each request stands in the order by task, then by length."""
    number = {task: i for i, task in enumerate(dict.fromkeys(r.task for r in requests))}
    return [(number[r.task], r.tokens) for r in requests]


def cut(requests: Sequence[Request], order: Sequence[int], cost: Cost, budget: int) -> Batches:
    """Cut an order of requests into neighbours, at least cost, by a dynamic programme.

    least[j] = min over i of least[i] + cost of order[i:j], each from sums over what is in front.
    """
    if len(order) == 1:  # as often in a plan task by task
        return [list(order)]
    tokens = np.cumsum([0, *(requests[i].tokens for i in order)])
    fixed, again = fixed_costs(requests, order, cost)
    least = np.zeros(len(order) + 1)
    before = np.zeros(len(order) + 1, np.intp)
    for j in range(1, len(order) + 1):
        low = min(int(np.searchsorted(tokens, tokens[j] - budget)), j - 1)
        shared = cost.square * (tokens[j] - tokens[low:j]).astype(float) ** 2
        costs = least[low:j] + (fixed[j] - fixed[low:j]) + again[low:j] + shared
        best = int(costs.argmin())
        least[j], before[j] = costs[best] + cost.batch, low + best
    return [list(order[i:j]) for i, j in pairwise(path(before))]


def fixed_costs(
    requests: Sequence[Request], order: Sequence[int], cost: Cost
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Sum up what tasks cost once; and what a task costs once more when it is cut here."""
    tasks = [requests[i].task for i in order]
    each = np.array([cost.of_task(requests[i]).fixed for i in order])
    begins = np.array([True, *(a != b for a, b in pairwise(tasks))])[: len(tasks)]
    return np.cumsum([0, *np.where(begins, each, 0)]), np.where(begins, 0, each)


def path(before: npt.NDArray[np.intp]) -> list[int]:
    """Follow the cuts back from the end."""
    cuts = [len(before) - 1]
    while cuts[-1]:
        cuts.append(int(before[cuts[-1]]))
    return cuts[::-1]

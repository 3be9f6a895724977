"""The plans of PetS: how it cuts queries of many tasks into batches (Zhou et al. 2022).

The paper costs a batch by its number of sequences and their longest, since shorter ones are padded
there; here the same steps are taken by a cost without padding.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from pageformer.udfs.tasks.cuts import Batches, Cost, Request, TaskCost, cut, ranks


def alpha_only(requests: Sequence[Request], cost: Cost, budget: int) -> Batches:
    """Sort all queries by length and cut them by the shared cost, whatever their tasks are."""
    order = sorted(range(len(requests)), key=lambda i: requests[i].tokens)
    shared = replace(cost, kinds={}, other=TaskCost(0.0, 0.0))
    return by_rank(requests, cut(requests, order, shared, budget))


def beta_only(requests: Sequence[Request], cost: Cost, budget: int) -> Batches:
    """Batch each task by itself, cut by its own cost."""
    rank = ranks(requests)
    order = sorted(range(len(requests)), key=rank.__getitem__)
    tasks = [list(own) for _, own in groupby(order, key=lambda i: requests[i].task)]
    return [batch for own in tasks for batch in cut(requests, own, cost, budget)]


def coordinated(requests: Sequence[Request], cost: Cost, budget: int) -> Batches:
    """Cut each task into mini-batches, sort these by length, and join neighbours into batches.

    The paper's two steps: by the cost of tasks, then by the shared cost.
    """
    small = beta_only(requests, replace(cost, batch=0.0, square=0.0), budget)
    small.sort(key=lambda batch: max(requests[i].tokens for i in batch))
    whole = [Request(sum(requests[i].tokens for i in batch)) for batch in small]
    joined = cut(whole, range(len(whole)), cost, budget)
    return by_rank(requests, [[i for n in batch for i in small[n]] for batch in joined])


def by_rank(requests: Sequence[Request], batches: Batches) -> Batches:
    """Sort each batch by task, then by length, as it is computed."""
    rank = ranks(requests)
    return [sorted(batch, key=rank.__getitem__) for batch in batches]

"""Which requests are computed together: batches of least cost within a budget of tokens."""

from collections.abc import Iterator, Sequence

from pageformer.udfs.tasks.cuts import Batches, Cost, Request, cut, ranks
from pageformer.udfs.tasks.pets_plans import alpha_only, beta_only, coordinated

EXACT_UP_TO = 10  # requests; more are cut in sorted order


def plan(requests: Sequence[Request], cost: Cost, budget: int) -> Batches:
    """Cut requests into batches of at most `budget` tokens (a longer one stands alone).

    Exact for a few requests. More are laid in order of their tasks and lengths, and cut there at
    least cost, unless a plan of PetS costs less. A batch is in that order itself. What is sure to
    cost least in one batch is not tried in several.
    """
    rank = ranks(requests)
    tokens = sum(request.tokens for request in requests)
    if requests and tokens <= budget and cost.keeps(tokens):
        return [sorted(range(len(requests)), key=rank.__getitem__)]
    if len(requests) <= EXACT_UP_TO:
        return exact(requests, rank, cost, budget)
    order = sorted(range(len(requests)), key=rank.__getitem__)
    plans = [cut(requests, order, cost, budget)]
    plans += [other(requests, cost, budget) for other in (alpha_only, beta_only, coordinated)]
    return min(plans, key=lambda batches: cost.of_plan(requests, batches))


def exact(
    requests: Sequence[Request], order: Sequence[tuple[int, int]], cost: Cost, budget: int
) -> Batches:
    """Try every way to cut a few requests into batches: the cheapest of each subset, once."""
    everyone = (1 << len(requests)) - 1
    members = [[i for i in range(len(requests)) if s >> i & 1] for s in range(everyone + 1)]
    alone = [
        cost.of_batch([requests[i] for i in m])
        if len(m) == 1 or sum(requests[i].tokens for i in m) <= budget
        else float("inf")
        for m in members
    ]
    least, last = [0.0], [0]
    for subset in range(1, everyone + 1):
        costs = ((least[subset ^ part] + alone[part], part) for part in parts(subset))
        cheapest, part = min(costs)
        least.append(cheapest)
        last.append(part)
    chosen, left = [], everyone
    while left:
        chosen.append(sorted(members[last[left]], key=order.__getitem__))
        left ^= last[left]
    return chosen


def parts(subset: int) -> Iterator[int]:
    """Yield the parts of a set of bits that have its lowest one, so that no plan comes twice."""
    first = subset & -subset
    rest = part = subset ^ first
    while part:
        yield part | first
        part = (part - 1) & rest
    yield first

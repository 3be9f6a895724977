"""Plans of batches: exact for few requests, never worse than the paper's, and fitted costs."""

import random
from collections.abc import Iterator, Sequence
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.serving import cost as costs
from pageformer.serving.plan import (
    Batches,
    Cost,
    Request,
    TaskCost,
    alpha_only,
    beta_only,
    coordinated,
    plan,
)
from pageformer.udfs.tasks.learnt import Learnt

KINDS = ("adapter", "mask", "diff", "bias")
COST = Cost(
    40.0,
    1.0,
    {
        "adapter": TaskCost(3.0, 0.05),
        "mask": TaskCost(6.0, 0.1),
        "diff": TaskCost(2.0, 0.1),
        "bias": TaskCost(0.2, 0.0),
    },
)
REQUESTS = st.lists(
    st.builds(
        lambda tokens, task: Request(tokens, task, None if task is None else KINDS[task % 4]),
        st.integers(1, 40),
        st.none() | st.integers(0, 3),
    ),
    max_size=7,
)


def partitions(members: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield every way to put members into batches."""
    if not members:
        yield []
        return
    first, *rest = members
    for batches in partitions(rest):
        yield [[first], *batches]
        for i, batch in enumerate(batches):
            yield [*batches[:i], [first, *batch], *batches[i + 1 :]]


def least(requests: Sequence[Request], cost: Cost, budget: int) -> float:
    def fits(batch: list[int]) -> bool:
        return len(batch) == 1 or sum(requests[i].tokens for i in batch) <= budget

    ways = partitions(range(len(requests)))
    return min(cost.of_plan(requests, way) for way in ways if all(map(fits, way)))


def assert_plan(requests: Sequence[Request], batches: Batches, budget: int) -> None:
    assert sorted(i for batch in batches for i in batch) == [*range(len(requests))]
    for batch in batches:
        assert len(batch) == 1 or sum(requests[i].tokens for i in batch) <= budget
        tasks = [requests[i].task for i in batch]
        assert len(dict.fromkeys(tasks)) == len(list(groupby(tasks)))


@given(
    requests=REQUESTS,
    budget=st.integers(20, 120),
    batch=st.floats(0, 100),
    square=st.just(0.0) | st.floats(0, 0.1),
)
@settings(deadline=None, max_examples=100)
def test_a_plan_equals_brute_force(
    requests: list[Request], budget: int, batch: float, square: float
) -> None:
    cost = Cost(batch, 1.0, COST.kinds, square=square)
    found = plan(requests, cost, budget)
    assert_plan(requests, found, budget)
    assert cost.of_plan(requests, found) == pytest.approx(least(requests, cost, budget))


def test_ten_requests_are_planned_exactly() -> None:
    draw = random.Random(3)
    requests = [Request(draw.randint(5, 40), n % 4, KINDS[n % 4]) for n in range(10)]
    found = plan(requests, COST, 90)
    assert COST.of_plan(requests, found) == pytest.approx(least(requests, COST, 90))


def queries(tasks: int, sigma: float, count: int = 256) -> list[Request]:
    """The paper's queries: lengths around 32, spread over tasks of four kinds."""
    draw = random.Random(int(tasks * 100 + sigma))
    lengths = (min(max(round(draw.gauss(32, sigma)), 1), 128) for _ in range(count))
    return [Request(n, i % tasks, KINDS[i % tasks % 4]) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("tasks", [1, 2, 4, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("sigma", [1, 2, 4, 8])
@pytest.mark.parametrize("budget", [256, 1024])
def test_a_plan_is_never_worse_than_the_papers(tasks: int, sigma: int, budget: int) -> None:
    requests = queries(tasks, sigma)
    ours = plan(requests, COST, budget)
    assert_plan(requests, ours, budget)
    for other in (alpha_only, beta_only, coordinated):
        theirs = other(requests, COST, budget)
        assert_plan(requests, theirs, budget)
        assert COST.of_plan(requests, ours) <= COST.of_plan(requests, theirs) + 1e-6, other.__name__


def test_costs_are_found_again() -> None:
    def shared(lengths: Sequence[int]) -> float:
        return 0.004 + 0.0001 * sum(lengths) + 1e-8 * sum(lengths) ** 2

    def masked(lengths: Sequence[int], tasks: int) -> float:
        return shared(lengths) + 0.0005 * tasks + 0.00002 * sum(lengths)

    found = costs.fit(shared, {"mask": masked})
    assert (found.batch, found.token, found.square) == pytest.approx((0.004, 0.0001, 1e-8))
    assert found.kinds["mask"] == pytest.approx((0.0005, 0.00002))


def test_costs_are_learnt_from_batches() -> None:
    """A guess before anything was seen; soon what the machine takes, also of kinds to come."""
    kinds = {kind: TaskCost(0.0005, 0.00002) for kind in KINDS}
    machine = Cost(0.004, 0.0001, kinds, square=5e-9)
    learnt, draw = Learnt(), random.Random(5)
    assert learnt.cost == Cost()
    for _ in range(60):
        some = [r for r in queries(8, 8.0, 40) if r.kind != "bias"]
        batch = draw.sample(some, draw.randint(1, 24))
        learnt.add(batch, machine.of_batch(batch) * draw.uniform(0.97, 1.03))
    found = learnt.cost
    assert (found.batch, found.token) == pytest.approx((0.004, 0.0001), rel=0.2)
    held_out = [r for r in queries(4, 8.0, 30) if r.kind != "bias"]
    assert found.of_batch(held_out) == pytest.approx(machine.of_batch(held_out), rel=0.05)
    assert 0 < found.of_task(Request(30, "new", "of a new kind")).fixed < 0.01


def test_a_plan_by_learnt_costs_is_never_worse_than_the_papers() -> None:
    learnt, requests = Learnt(), queries(32, 4.0)
    for count in (8, 16, 32, 64):
        learnt.add(requests[:count], COST.of_batch(requests[:count]) / 1e4)
    ours = plan(requests, learnt.cost, 512)
    assert_plan(requests, ours, 512)
    for other in (alpha_only, beta_only, coordinated):
        theirs = learnt.cost.of_plan(requests, other(requests, learnt.cost, 512))
        assert learnt.cost.of_plan(requests, ours) <= theirs * (1 + 1e-9), other.__name__

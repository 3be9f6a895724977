"""Batches: the cheapest of all ways to cut, within their limit, by costs that were measured."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import waiting_line
from pageformer.serving import timings
from pageformer.serving.response_cache import OVERHEAD, ResponseCache
from pageformer.serving.schedule import POLICIES, Plan, Size, by_cost
from pageformer.serving.timings import ASKING, Timings
from pageformer.udfs.executors.wire import Asked

SIZES = st.lists(
    st.integers(1, 60).map(lambda tokens: Size(tokens, tokens)), min_size=1, max_size=8
)
COSTS = st.builds(
    Timings,
    st.floats(0, 1, allow_subnormal=False),
    st.floats(0, 1, allow_subnormal=False),
    st.floats(0, 0.1, allow_subnormal=False),
)


def seconds(plan: Plan, sizes: Sequence[Size], cost: Timings) -> float:
    batches = [[sizes[i] for i in batch] for batch in plan]
    return sum(cost.cost(sum(s.tokens for s in b), max(s.longest for s in b)) for b in batches)


def every_plan(count: int) -> Iterator[list[range]]:
    """Yield all ways to cut `count` requests into runs."""
    for cuts in range(1 << (count - 1)):
        places = [0, *(i for i in range(1, count) if cuts >> (i - 1) & 1), count]
        yield [range(a, b) for a, b in pairwise(places)]


@given(SIZES, COSTS, st.integers(20, 120))
def test_no_other_cut_of_the_requests_by_length_is_cheaper(
    sizes: list[Size], cost: Timings, most: int
) -> None:
    order = sorted(range(len(sizes)), key=lambda i: sizes[i].longest)
    allowed = [
        plan
        for runs in every_plan(len(sizes))
        if (plan := [[order[i] for i in run] for run in runs])
        and all(len(b) == 1 or sum(sizes[i].tokens for i in b) <= most for b in plan)
    ]
    best = min(seconds(plan, sizes, cost) for plan in allowed)
    assert seconds(by_cost(sizes, cost.cost, most), sizes, cost) == pytest.approx(best)


@pytest.mark.parametrize("policy", POLICIES)
@given(sizes=SIZES)
def test_every_request_is_in_one_batch(policy: str, sizes: list[Size]) -> None:
    plan = POLICIES[policy](sizes, Timings().cost, 100)
    assert sorted(i for batch in plan for i in batch) == list(range(len(sizes)))


@pytest.mark.parametrize("policy", ["cost", "tokens"])
@given(sizes=SIZES)
def test_a_batch_keeps_to_the_limit(policy: str, sizes: list[Size]) -> None:
    for batch in POLICIES[policy](sizes, Timings().cost, 50):
        assert len(batch) == 1 or sum(sizes[i].tokens for i in batch) <= 50


def test_requests_go_together_where_that_saves_and_only_there() -> None:
    sizes = [Size(5, 5), Size(200, 200), Size(6, 6)]
    saving = Timings(fixed=1.0, token=0.01)
    assert by_cost(sizes, saving.cost, 256) == [[0, 2, 1]]
    steep = Timings(fixed=0.001, token=0.0, attention=1.0)
    assert by_cost(sizes, steep.cost, 256) == [[0], [2], [1]]


def test_measured_costs_are_those_of_the_batches() -> None:
    true = Timings(fixed=2e-3, token=2e-4, attention=1e-6)
    clock = [0.0]

    def run(sequences: Sequence[Sequence[int]]) -> None:
        lengths = [len(ids) for ids in sequences]
        clock[0] += true.cost(sum(lengths), max(lengths))

    found = timings.measure(run, 512, 1000, lambda: clock[0])
    for tokens, longest in ((3, 3), (100, 20), (512, 512)):
        assert found.cost(tokens, longest) == pytest.approx(true.cost(tokens, longest), rel=1e-3)
    assert found.savings[0][1] == pytest.approx(true.fixed * (1 - 4 / 256))


def test_the_response_cache_keeps_to_its_bytes_and_forgets_the_least_used() -> None:
    cache = ResponseCache(3 * (OVERHEAD + 10))
    keys = [cache.key(Asked(bytes(32), "auto", "vectors", None, None, 0, ([i],))) for i in range(4)]
    for key in keys[:3]:
        cache.put(key, ["0123456789"])
    assert cache.get(keys[0]) == ["0123456789"]
    cache.put(keys[3], ["0123456789"])
    assert [cache.get(key) is None for key in keys] == [False, True, False, False]
    assert ResponseCache(0).key(Asked(bytes(32), "auto", "vectors", None, None, 0, ())) is None


def test_asking_pays_up_to_the_length_whose_saving_company_makes_worth_it() -> None:
    some = Timings(savings=((4, 3 * ASKING), (8, 1.5 * ASKING), (16, 0.5 * ASKING), (32, ASKING)))
    assert [some.pays_up_to(together) for together in (1, 2, 100)] == [0, 4, 8]
    assert Timings().pays_up_to(together=100) == 0


SHORT_AND_LONG = [5, 12, 20, 25, 27, 30, 38, 51, 70, 132]  # as fortunes are
ALL_ALIKE = [5, 30, 60, 90, 120, 150, 180, 210, 240, 256]  # uniform, cut at the model's limit


@pytest.mark.parametrize("lengths", [SHORT_AND_LONG, ALL_ALIKE])
@pytest.mark.parametrize("load", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_the_last_per_cent_waits_less_than_with_fixed_batches(
    lengths: list[int], load: float
) -> None:
    rate = load * waiting_line.saturation(lengths)
    p99 = {}
    for policy in ("cost", "fixed"):
        found = waiting_line.latencies(policy, shuffled(lengths), rate)
        p99[policy] = found[int(0.99 * len(found))]
    assert p99["cost"] < p99["fixed"] * (1.0 if load >= 0.5 else 1.05)


def shuffled(lengths: list[int]) -> list[int]:
    """Return many of these lengths in a random order, which stays the same."""
    return random.Random(1).choices(lengths, k=1009)

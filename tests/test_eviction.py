"""What policies keep and what a forecast expects, from counts alone."""

import pytest

from bench.simulator import belady, simulate
from bench.traces import Trace, scan, versions, zipf
from pageformer.udfs.page_cache.eviction import HEAD, POLICIES, SLOT, Forecast, Held, displaces

SMALL = versions(16, pages=20)  # as the benchmark's, of fewer pages
CAPACITY = 65  # a quarter of them


def forecast(versions: int, requests: list[int]) -> Forecast:
    made = Forecast([0.0] * (HEAD + SLOT * versions))
    for version in requests:
        made.count(version)
    return made


def hit_ratios(trace: Trace, capacity: int = CAPACITY) -> dict[str, float]:
    return {policy: simulate(trace, capacity, policy) for policy in POLICIES}


def test_lru_gives_up_what_was_wanted_longest_ago_and_mru_what_was_just() -> None:
    old, new = Held(1, 1, 0.5, used=3), Held(1, 1, 0.1, used=9)
    assert POLICIES["lru"](old) < POLICIES["lru"](new)
    assert POLICIES["mru"](new) < POLICIES["mru"](old)


def test_sharing_weighs_reload_cost_by_rate_and_bytes() -> None:
    worth = POLICIES["sharing"]
    assert worth(Held(1, 1, 0.2, 0)) > worth(Held(1, 1, 0.1, 9))
    assert worth(Held(1, 2, 0.1, 0)) > worth(Held(1, 1, 0.1, 0))
    assert worth(Held(2, 2, 0.1, 0)) == worth(Held(1, 1, 0.1, 0))


def test_only_by_worth_may_a_new_page_be_refused() -> None:
    assert displaces("lru", 0, 9)
    assert displaces("sharing", 0.2, 0.1)
    assert not displaces("sharing", 0.1, 0.1)  # among equals, what is there stays


def test_the_shares_that_are_expected_add_up_to_one() -> None:
    made = forecast(4, [0, 1, 2, 0, 1, 0, 3, 0] * 20)
    assert sum(made.rate(v) for v in range(4)) == pytest.approx(1, abs=0.01)


def test_a_steady_share_is_learnt() -> None:
    made = forecast(3, [0, 0, 0, 1] * 300)
    assert made.rate(0) == pytest.approx(0.75, abs=0.1)
    assert made.rate(1) == pytest.approx(0.25, abs=0.1)
    assert made.rate(2) == 0


def test_a_new_favourite_is_noticed_within_a_few_requests() -> None:
    made = forecast(2, [0] * 1000 + [1] * 5)
    assert made.rate(1) > 0.8


def test_a_forgotten_version_is_expected_no_more() -> None:
    made = forecast(2, [0, 1] * 10)
    made.forget(1)
    assert (made.rate(1), made.used(1)) == (0, 0)
    assert made.rate(0) > 0


def test_belady_keeps_what_is_wanted_soonest_and_may_keep_nothing_new() -> None:
    one_page_each = versions(3, pages=1, shared=0)
    trace = Trace(one_page_each, [0, 1, 0, 2, 0, 1])
    assert belady(trace, 1) == 2 / 6
    assert belady(trace, 2) == 3 / 6


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("drift", [0, 100])
@pytest.mark.parametrize("capacity", [CAPACITY // 2, CAPACITY * 2])
def test_sharing_finds_most_among_the_online_policies(seed: int, drift: int, capacity: int) -> None:
    trace = zipf(seed, SMALL, requests=600, drift=drift)
    found = hit_ratios(trace, capacity)
    assert max(found, key=lambda policy: found[policy]) == "sharing"
    assert found["sharing"] <= belady(trace, capacity)


@pytest.mark.parametrize("capacity", [10, CAPACITY, CAPACITY * 3])
def test_a_scan_costs_sharing_nothing(capacity: int) -> None:
    found = hit_ratios(scan(SMALL, requests=400), capacity)
    assert found["sharing"] >= found["lru"] - 0.02

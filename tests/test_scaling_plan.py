"""What a large job would take: a simulated queue that obeys what is known of queues."""

import re
from dataclasses import replace

import pytest
from test_cli import Run
from test_cli import run as run

from pageformer.scaling.plan import Rates
from pageformer.scaling.simulation import Item, Setting, simulate

ITEM = Item(cutting=0.001, reading=0.01, encoding=1.0, writing=0.02)
CALM = Setting(1, 4, 4, 4, stragglers=0.0)


def test_one_worker_takes_the_sum_of_all_steps() -> None:
    alone = replace(CALM, workers_per_node=1)
    assert simulate(ITEM, alone, 10).seconds == pytest.approx(10.31, rel=1e-3)


def test_few_nodes_scale_and_many_wait_for_the_database() -> None:
    seconds = {n: simulate(ITEM, replace(CALM, nodes=n), 20_000).seconds for n in (1, 10, 1000)}
    assert seconds[1] / seconds[10] == pytest.approx(10, rel=0.02)
    many = simulate(ITEM, replace(CALM, nodes=1000), 20_000)
    assert many.limit == "database"
    assert seconds[1000] == pytest.approx(20_000 * 0.03 / 4, rel=0.05)


def test_a_slow_driver_is_what_limits() -> None:
    slow = simulate(replace(ITEM, cutting=0.1), replace(CALM, nodes=100), 2_000)
    assert (slow.limit, slow.used["driver"]) == ("driver", pytest.approx(1, abs=0.02))


def test_more_workers_than_cores_gain_nothing_where_the_database_shares_them() -> None:
    shared = Setting(1, 2, 2, 2, apart=False, stragglers=0.0)
    two = simulate(ITEM, shared, 400).seconds
    four = simulate(ITEM, replace(shared, workers_per_node=4), 400).seconds
    assert four == pytest.approx(two, rel=0.03)
    assert two == pytest.approx(400 * 1.03 / 2, rel=0.02)


def test_stragglers_and_losses_cost_what_they_take() -> None:
    calm = simulate(ITEM, CALM, 4_000).seconds
    slow = simulate(ITEM, replace(CALM, stragglers=0.1), 4_000).seconds
    assert slow / calm == pytest.approx(1.3, rel=0.05)
    lossy = simulate(ITEM, replace(CALM, losses_per_hour=360, comes_back_after=1), 4_000)
    assert lossy.repeated == pytest.approx(4_000 * 0.1, rel=0.25)
    assert lossy.seconds / calm == pytest.approx(1 + 0.11 * 1.5, rel=0.05)


def test_a_long_queue_waits_for_its_last_stragglers_once() -> None:
    many = replace(CALM, nodes=100, stragglers=0.02, database_cores=100)
    found = simulate(replace(ITEM, cutting=1e-5), many, 10_000_000)
    assert found.seconds == pytest.approx(10_000_000 * (1.03 + 0.02 * 3) / 400, rel=0.03)
    assert found.used["workers"] == pytest.approx(1.06 / 1.09, rel=0.03)


def test_the_formula_and_the_queue_agree() -> None:
    rates = Rates(1e-6, 1e-6, 1e-5, 1e-4, 4e-3, 600, 1540, 90_000_000)
    assert rates.hours(1e9, 160, 16) == pytest.approx(1e9 * 4.11e-3 / 160 / 3600)
    assert rates.bytes(1e9, 10) == pytest.approx(2.14e12 + 9e8)
    setting = Setting(10, 16, 16, 16, stragglers=0.0)
    queued = simulate(rates.item(), setting, 20_000).seconds / 3600
    assert queued == pytest.approx(rates.hours(20_000 * 256, 160, 16), rel=0.03)


def test_a_plan_is_printed_with_its_formula(run: Run, minilm: str) -> None:
    told = run("plan", "--rows", "1e9", "--tokens", "20", "--model", "minilm", "--dsn", minilm)
    assert told.stdout.startswith("1,000,000,000 texts of 20 tokens, minilm\nmeasured here")
    for line in (
        r"c = \d+\.\d+  enc",
        r"d = \d\.\d+ \+ \d\.\d+  read",
        r"k = \d\.\d+ \+ \S+ .*cut",
    ):
        assert re.search(line, told.stdout)
    assert "hours = rows * max((c + d) / workers, d / database cores, k)" in told.stdout
    assert "rows * (89 + 1540) + nodes * " in told.stdout
    assert len(re.findall(r"^[\d,]+ +[\d,.]+ +[\d,.]+ +[\d,]+ +\d+%", told.stdout, re.M)) == 7

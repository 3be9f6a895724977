"""Twenty processes share one small cache while any of them may be killed at any moment."""

import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from cache_processes import Connection, Table, page_bytes, processes
from cache_processes import parent as parent
from cache_processes import table as table

from pageformer.udfs.page_cache.page_file import Page
from pageformer.udfs.page_cache.page_files import NoRoom

PROCESSES = 20
SIZE = 65536
COMMON, OWN = 2, 6
LIMIT = 20 * SIZE  # of 50 pages
VERSIONS = [bytes([n]) * 32 for n in range(1, 9)]


def pages_of(table: Table) -> dict[bytes, list[Page]]:
    common = [table.add(n, size=SIZE) for n in range(COMMON)]
    return {
        version: common + [table.add(100 * version[0] + n, size=SIZE) for n in range(OWN)]
        for version in VERSIONS
    }


def work(parent: Path, table: Table, made_of: dict[bytes, list[Page]], ended: Path) -> None:
    """Use versions and compare every page with what the table holds, until told to stop."""
    dice = random.Random(os.getpid())
    connection = Connection(parent, table, limit=LIMIT, policy=dice.choice(["lru", "sharing"]))
    while not ended.exists():  # an Event has a lock, which the killed would keep
        version = dice.choices(VERSIONS, range(len(VERSIONS), 0, -1))[0]
        use(connection, version, made_of[version], table, wholly=dice.random() < 0.5)


def use(
    connection: Connection, version: bytes, pages: list[Page], table: Table, wholly: bool
) -> None:
    connection.cache.belong(version, "pages", pages)
    connection.cache.request(version)
    try:
        views = connection.open(pages, version) if wholly else []
    except NoRoom:
        wholly = False
    if not wholly:
        views = connection.cache.borrow(pages, version)
    for view, (digest, _) in zip(views, pages, strict=True):
        assert bytes(view) == table.pages[digest]
    if wholly:
        connection.cache.close(pages)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)])
def test_processes_that_are_killed_leave_nothing_wrong_behind(
    parent: Path, table: Table, seconds: int
) -> None:
    made_of, ended, dice = pages_of(table), parent / "ended", random.Random(seconds)

    def start() -> BaseProcess:
        process = processes.Process(target=work, args=(parent, table, made_of, ended))
        process.start()
        return process

    workers = [start() for _ in range(PROCESSES)]
    killed, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(dice.uniform(0, 0.05))
        unlucky = dice.randrange(PROCESSES)
        os.kill(workers[unlucky].pid or 0, signal.SIGKILL)
        workers[unlucky].join()
        assert workers[unlucky].exitcode == -signal.SIGKILL  # and not by an error of its own
        workers[unlucky] = start()
        killed += 1
    ended.touch()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES  # nobody waits for the dead
    assert killed > seconds
    survivor = Connection(parent, table, limit=LIMIT)
    assert page_bytes(survivor) <= LIMIT
    every = [page for pages in made_of.values() for page in pages]
    assert survivor.cache.check(every) > 0
    empty = Connection(parent, table, limit=0)
    assert page_bytes(empty) == 0

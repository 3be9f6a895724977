"""The page cache at its limit: what goes, what stays, and that nothing in use is ever lost."""

from pathlib import Path
from typing import Any

import pytest
from cache_processes import Connection, Table, page_bytes
from cache_processes import parent as parent
from cache_processes import table as table

from pageformer.errors import ServerUnready
from pageformer.udfs.page_cache.page_file import Page, file_name
from pageformer.udfs.page_cache.page_files import NoRoom
from pageformer.udfs.page_cache.room import limit_of, policy_of

SIZE = 16384
VERSIONS = [bytes([n]) * 32 for n in range(1, 9)]


def limited(parent: Path, table: Table, pages: int, **more: Any) -> Connection:
    return Connection(parent, table, limit=pages * SIZE, **more)


def add(table: Table, connection: Connection, version: bytes, pages: int) -> list[Page]:
    """Make pages that belong to a version."""
    made = [table.add(1000 * version[0] + i, size=SIZE) for i in range(pages)]
    connection.cache.belong(version, "pages", made)
    return made


def read(connection: Connection, version: bytes, pages: list[Page]) -> None:
    """Use a version once, and let go of it."""
    connection.cache.request(version)
    connection.open(pages, version)
    connection.cache.close(pages)


def there(connection: Connection, pages: list[Page]) -> int:
    return sum(connection.file(page).exists() for page in pages)


# -- the settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "limit"),
    [("none", None), ("0", 0), ("4096", 4096), ("64MB", 64 << 20), ("2 gb", 2 << 30)],
)
def test_a_limit_is_a_size_or_none(value: str, limit: int | None) -> None:
    assert limit_of(value) == limit


@pytest.mark.parametrize("value", ["", "-1", "64 parsecs", "1.5GB", "MB"])
def test_other_limits_are_refused(value: str) -> None:
    with pytest.raises(ServerUnready, match="cache_limit is"):
        limit_of(value)


def test_unknown_policies_are_refused() -> None:
    assert policy_of("mru") == "mru"
    with pytest.raises(ServerUnready, match="cache_policy is 'fifo'"):
        policy_of("fifo")


# -- what goes ------------------------------------------------------------------------------------


def test_the_folder_stays_within_the_limit(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=10)
    for version in VERSIONS:
        read(connection, version, add(table, connection, version, 4))
        assert page_bytes(connection) <= 10 * SIZE


def test_lru_gives_up_the_version_that_was_wanted_longest_ago(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8, policy="lru")
    first, second, third = (add(table, connection, version, 4) for version in VERSIONS[:3])
    for n, pages in ((0, first), (1, second), (0, first), (2, third)):
        read(connection, VERSIONS[n], pages)
    assert (there(connection, first), there(connection, second)) == (4, 0)


def test_mru_gives_up_the_version_that_was_wanted_last(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8, policy="mru")
    first, second, third = (add(table, connection, version, 4) for version in VERSIONS[:3])
    for version, pages in zip(VERSIONS, (first, second, third), strict=False):
        read(connection, version, pages)
    assert (there(connection, first), there(connection, second)) == (4, 0)


def test_sharing_keeps_what_several_versions_want(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8)
    common = [table.add(n, size=SIZE) for n in range(4)]
    for version in VERSIONS[:6]:
        own = add(table, connection, version, 3)
        connection.cache.belong(version, "pages", [*common, *own])
        read(connection, version, [*common, *own])
        assert there(connection, common) == 4


def test_sharing_keeps_what_is_wanted_most(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8)
    favourite = add(table, connection, VERSIONS[0], 4)
    for _ in range(20):
        read(connection, VERSIONS[0], favourite)
    for version in VERSIONS[1:5]:
        read(connection, version, add(table, connection, version, 4))
    assert there(connection, favourite) == 4


def test_a_version_that_was_dropped_goes_first(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8)
    dropped, other, new = (add(table, connection, version, 4) for version in VERSIONS[:3])
    for _ in range(20):
        read(connection, VERSIONS[0], dropped)
    read(connection, VERSIONS[1], other)
    connection.cache.room.usage.forget(VERSIONS[0])
    read(connection, VERSIONS[2], new)
    assert (there(connection, dropped), there(connection, other)) == (0, 4)


def test_a_lower_limit_holds_at_once(parent: Path, table: Table) -> None:
    connection = Connection(parent, table)
    pages = add(table, connection, VERSIONS[0], 8)
    read(connection, VERSIONS[0], pages)
    assert there(connection, pages) == 8
    limited(parent, table, pages=3)
    assert there(connection, pages) <= 3


# -- what stays -----------------------------------------------------------------------------------


def test_pages_in_use_are_never_deleted(parent: Path, table: Table) -> None:
    connection, other = (limited(parent, table, pages=8) for _ in range(2))
    held = add(table, connection, VERSIONS[0], 6)
    views = connection.open(held, VERSIONS[0])
    for version in VERSIONS[1:5]:
        read(other, version, add(table, other, version, 2))
    assert there(connection, held) == 6
    assert [bytes(view) for view in views] == [table.pages[digest] for digest, _ in held]
    assert page_bytes(connection) <= 8 * SIZE


def test_without_room_beside_pages_in_use_nothing_is_opened(parent: Path, table: Table) -> None:
    connection, other = (limited(parent, table, pages=8) for _ in range(2))
    held = add(table, connection, VERSIONS[0], 6)
    views = connection.open(held, VERSIONS[0])
    more = add(table, other, VERSIONS[1], 3)
    with pytest.raises(NoRoom):
        other.open(more, VERSIONS[1])
    borrowed = other.cache.borrow(more, VERSIONS[1])
    assert [bytes(view) for view in borrowed] == [table.pages[digest] for digest, _ in more]
    assert page_bytes(connection) <= 8 * SIZE
    assert len(views) == 6


def test_who_holds_what_it_does_not_need_is_asked_for_it(parent: Path, table: Table) -> None:
    connection, other = (limited(parent, table, pages=8) for _ in range(2))
    held = add(table, connection, VERSIONS[0], 6)
    connection.open(held, VERSIONS[0])
    assert not connection.cache.room.asked_back()
    more = add(table, other, VERSIONS[1], 3)
    with pytest.raises(NoRoom):
        other.open(more, VERSIONS[1])
    assert connection.cache.room.asked_back()
    assert not connection.cache.room.asked_back()  # once
    connection.cache.close(held)
    assert len(other.open(more, VERSIONS[1])) == 3


def test_a_process_gives_up_first_what_it_does_not_need_itself(parent: Path, table: Table) -> None:
    held: list[Page] = []

    def spare() -> bool:
        connection.cache.close(held)
        given_up = bool(held)
        held.clear()
        return given_up

    connection = limited(parent, table, pages=8, spare=spare)
    held += add(table, connection, VERSIONS[0], 6)
    connection.open(held, VERSIONS[0])
    more = add(table, connection, VERSIONS[1], 6)
    assert len(connection.open(more, VERSIONS[1])) == 6
    assert held == []


def test_what_is_not_worth_a_place_is_read_and_not_kept(parent: Path, table: Table) -> None:
    connection = limited(parent, table, pages=8)
    favourite = add(table, connection, VERSIONS[0], 8)
    for _ in range(20):
        read(connection, VERSIONS[0], favourite)
    once = add(table, connection, VERSIONS[1], 4)
    connection.cache.request(VERSIONS[1])
    views = connection.cache.borrow(once, VERSIONS[1])
    assert [bytes(view) for view in views] == [table.pages[digest] for digest, _ in once]
    assert (there(connection, favourite), there(connection, once)) == (8, 0)


def test_a_larger_version_that_is_read_again_and_again_finds_a_part_of_itself(
    parent: Path, table: Table
) -> None:
    connection = limited(parent, table, pages=8)
    pages = add(table, connection, VERSIONS[0], 40)
    for _ in range(5):
        connection.cache.request(VERSIONS[0])
        connection.cache.borrow(pages, VERSIONS[0])
    assert table.reads <= 40 + 4 * 33


def test_a_damaged_file_counts_while_somebody_holds_it(parent: Path, table: Table) -> None:
    connection, other = (limited(parent, table, pages=4) for _ in range(2))
    [page] = add(table, connection, VERSIONS[0], 1)
    [view] = connection.open([page], VERSIONS[0])
    connection.cache.folder.retire(file_name(page))
    assert not connection.file(page).exists()
    assert page_bytes(connection) == SIZE
    assert bytes(view) == table.pages[page[0]]
    connection.cache.close([page])
    del view
    read(other, VERSIONS[1], add(table, other, VERSIONS[1], 4))
    assert page_bytes(connection) == 4 * SIZE

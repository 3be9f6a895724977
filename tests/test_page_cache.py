"""The page cache: one copy for all processes, filled once, and damage always noticed."""

import hashlib
import multiprocessing
import os
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from cache_processes import PAGE_BYTES, Connection, Table, in_processes, processes
from cache_processes import connection as connection
from cache_processes import parent as parent
from cache_processes import table as table
from hypothesis import given, settings
from hypothesis import strategies as st

from pageformer.errors import DamagedPage, ServerUnready
from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.page_file import Page, content, file_name, floats

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts or gives files away")


class Cancelled(Exception):
    """What `pulse` raises in these tests, as PostgreSQL does for a cancelled query."""


def overwrite(path: Path, offset: int, flip: int = 1) -> None:
    """Flip bits of one byte, as a stray process of the same user could."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ flip]))


def cut(path: Path, size: int) -> None:
    """Give a file another length."""
    path.chmod(0o600)
    os.truncate(path, size)


# -- what is returned -----------------------------------------------------------------------------


def test_a_page_is_returned_as_its_float32_elements_in_order(
    connection: Connection, table: Table
) -> None:
    pages = [table.add(seed) for seed in range(3)]
    views = connection.open(pages)
    assert [view.format for view in views] == ["f"] * 3
    assert [bytes(view) for view in views] == [table.pages[digest] for digest, _ in pages]


def test_views_are_read_only(connection: Connection, table: Table) -> None:
    [view] = connection.open([table.add(1)])
    assert view.readonly
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    assert not np.frombuffer(view, np.float32).flags.writeable


def test_a_second_connection_reads_nothing_from_the_table(
    parent: Path, connection: Connection, table: Table
) -> None:
    pages = [table.add(seed) for seed in range(3)]
    connection.open(pages)
    assert table.reads == 3
    views = Connection(parent, table).open(pages)
    assert table.reads == 3
    assert [bytes(view) for view in views] == [table.pages[digest] for digest, _ in pages]


def test_other_clusters_have_other_folders(parent: Path, table: Table) -> None:
    here, there = (
        PageCache(str(parent), path, table.read, lambda: None, print).folder.path
        for path in ("/data/a", "/data/b")
    )
    assert here != there


def test_a_page_opened_again_is_the_same_mapping(connection: Connection, table: Table) -> None:
    page = table.add(1)
    [first], [second] = connection.open([page]), connection.open([page])
    assert first is second
    connection.cache.close([page])
    assert connection.open([page])[0] is first


def test_a_closed_page_is_unmapped_with_its_last_view(connection: Connection, table: Table) -> None:
    page = table.add(1)
    view = connection.open([page])[0]
    elements = np.frombuffer(view, np.float32)
    connection.cache.close([page])
    assert file_name(page) in Path("/proc/self/maps").read_text()
    assert elements.sum() == np.frombuffer(table.pages[page[0]], np.float32).sum()
    del view, elements
    assert file_name(page) not in Path("/proc/self/maps").read_text()


def test_closing_twice_is_harmless(connection: Connection, table: Table) -> None:
    page = table.add(1)
    connection.open([page])
    connection.cache.close([page])
    connection.cache.close([page])
    assert bytes(connection.open([page])[0]) == table.pages[page[0]]


def test_files_and_folder_are_for_this_user_alone(connection: Connection, table: Table) -> None:
    page = table.add(1)
    connection.open([page])
    assert stat.S_IMODE(connection.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(connection.file(page).stat().st_mode) == 0o400


# -- 16 bits --------------------------------------------------------------------------------------


@given(st.binary(min_size=2, max_size=256).filter(lambda data: len(data) % 2 == 0))
@settings(deadline=None)
def test_float16_is_widened_exactly(data: bytes) -> None:
    page = (hashlib.sha256(data).digest(), "f16")
    widened = floats(page, memoryview(content(page, data)))
    assert np.array_equal(widened, np.frombuffer(data, "<f2").astype("<f4"), equal_nan=True)


@given(st.binary(min_size=2, max_size=256).filter(lambda data: len(data) % 2 == 0))
@settings(deadline=None)
def test_bfloat16_is_widened_exactly(data: bytes) -> None:
    page = (hashlib.sha256(data).digest(), "bf16")
    widened = floats(page, memoryview(content(page, data)))
    pairs = zip(data[::2], data[1::2], strict=True)
    assert bytes(widened) == b"".join(bytes((0, 0, low, high)) for low, high in pairs)


def test_every_float16_is_widened_exactly() -> None:
    every = np.arange(1 << 16, dtype="<u2").view("<f2")  # denormals, infinities, both zeros
    data = every[~np.isnan(every)].tobytes()
    page = (hashlib.sha256(data).digest(), "f16")
    widened = np.frombuffer(floats(page, memoryview(content(page, data))), np.float32)
    expected = np.frombuffer(data, "<f2").astype(np.float64).astype(np.float32)
    assert np.array_equal(widened, expected)
    assert np.array_equal(np.signbit(widened), np.signbit(expected))


def test_one_page_in_two_formats_has_two_files(connection: Connection, table: Table) -> None:
    digest, _ = table.add(1)
    half, brain = connection.open([(digest, "f16"), (digest, "bf16")])
    data = np.frombuffer(table.pages[digest], "<u2")
    assert np.array_equal(half, data.view("<f2").astype(np.float32), equal_nan=True)
    assert np.array_equal(np.frombuffer(brain, "<u4") >> 16, data)


# -- filling once ---------------------------------------------------------------------------------


def test_concurrent_misses_read_each_page_once(parent: Path, table: Table) -> None:
    pages = [table.add(seed, size=PAGE_BYTES // 8) for seed in range(20)]

    def connect(number: int) -> tuple[int, bool]:
        mine = pages[number:] + pages[:number]
        views = Connection(parent, table).open(mine)
        sound = all(bytes(v) == table.pages[d] for v, (d, _) in zip(views, mine, strict=True))
        return table.reads, sound

    results = in_processes(8, connect)
    assert all(sound for _, sound in results)
    assert sum(reads for reads, _ in results) == len(pages)


def start_filler(parent: Path, table: Table, page: Page) -> multiprocessing.process.BaseProcess:
    """Start a process that stops for good in the middle of writing a page's file."""
    inside: Event = processes.Event()

    def fill() -> None:
        def write_half(descriptor: int, data: memoryview) -> None:
            os.write(descriptor, data[: len(data) // 2])
            inside.set()
            time.sleep(600)

        import pageformer.udfs.page_cache.private_folder as module

        module.write_wholly = write_half  # type: ignore[assignment]
        Connection(parent, table).open([page])

    process = processes.Process(target=fill)
    process.start()
    assert inside.wait(30)
    return process


def test_a_killed_filler_leaves_a_page_that_the_next_one_fills(
    parent: Path, connection: Connection, table: Table
) -> None:
    page = table.add(1)
    filler = start_filler(parent, table, page)
    os.kill(filler.pid or 0, signal.SIGKILL)
    filler.join()
    assert not connection.file(page).exists()
    assert bytes(connection.open([page])[0]) == table.pages[page[0]]
    left = {path.name for path in connection.folder.iterdir()}
    assert left == {file_name(page), "locks"}


def test_waiting_for_another_filler_can_be_cancelled(parent: Path, table: Table) -> None:
    page = table.add(1)
    filler = start_filler(parent, table, page)
    pulses = []

    def pulse() -> None:
        pulses.append(1)
        if len(pulses) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        Connection(parent, table, pulse).open([page])
    filler.kill()
    filler.join()
    assert table.reads == 0


def test_a_cancelled_open_holds_nothing_and_can_be_repeated(parent: Path, table: Table) -> None:
    pages = [table.add(seed) for seed in range(4)]
    cancel = True

    def pulse() -> None:
        if cancel and table.reads == 2:
            raise Cancelled

    connection = Connection(parent, table, pulse)
    with pytest.raises(Cancelled):
        connection.open(pages)
    assert connection.file(pages[0]).exists()
    assert file_name(pages[0]) not in Path("/proc/self/maps").read_text()
    cancel = False
    assert len(connection.open(pages)) == 4
    assert table.reads == 4


def test_ten_processes_hold_one_copy(parent: Path, table: Table) -> None:
    pages = [table.add(seed) for seed in range(16)]
    together = processes.Barrier(10)

    def connect(_: int) -> tuple[int, int, int]:
        views = Connection(parent, table).open(pages)
        assert all(np.isfinite(np.frombuffer(view, np.float32)).all() for view in views)
        together.wait()  # all ten have touched every page
        sizes = mapped_kilobytes({file_name(page) for page in pages})
        together.wait()
        return sizes

    for resident, proportional, private in in_processes(10, connect):
        assert resident == 16 * 1024
        assert proportional <= resident / 10 + 64
        assert private == 0


def mapped_kilobytes(names: set[str]) -> tuple[int, int, int]:
    """Add up Rss, Pss and private memory of this process's mappings of these files."""
    sizes = {"Rss": 0, "Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    ours = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            ours = line.rsplit("/", 1)[-1] in names
        elif ours and first[:-1] in sizes:
            sizes[first[:-1]] += int(line.split()[1])
    return sizes["Rss"], sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


# -- damage ---------------------------------------------------------------------------------------


def test_a_damaged_row_is_refused_by_name(connection: Connection, table: Table) -> None:
    page = table.add(1)
    table.pages[page[0]] = b"\1" + table.pages[page[0]][1:]
    with pytest.raises(DamagedPage) as raised:
        connection.open([page])
    assert raised.value.message == (
        f"page {page[0].hex()} in table pageformer.page is damaged: "
        "its bytes differ from the hash that names them"
    )
    assert not connection.file(page).exists()


@pytest.mark.parametrize("form", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("offset", [0, PAGE_BYTES - 1])
def test_a_flipped_byte_is_caught_when_the_page_is_opened(
    connection: Connection, table: Table, form: str, offset: int
) -> None:
    page = table.add(1, form)
    connection.cache.close([page] * len(connection.open([page])))
    overwrite(connection.file(page), offset)
    with pytest.raises(DamagedPage, match=page[0].hex()):
        connection.open([page])
    assert len(connection.open([page])[0]) * 4 == PAGE_BYTES * (1 if form == "f32" else 2)
    assert table.reads == 2


def test_a_flipped_byte_in_the_checksum_of_a_derived_file_is_caught(
    connection: Connection, table: Table
) -> None:
    page = table.add(1, "bf16")
    connection.cache.close([page] * len(connection.open([page])))
    overwrite(connection.file(page), 2 * PAGE_BYTES + 31)
    with pytest.raises(DamagedPage, match=page[0].hex()):
        connection.open([page])


@pytest.mark.parametrize("form", ["f32", "bf16"])
@pytest.mark.parametrize("size", [0, 4, 31, 4096, PAGE_BYTES - 4, PAGE_BYTES + 4])
def test_a_file_of_another_length_is_caught(
    connection: Connection, table: Table, form: str, size: int
) -> None:
    page = table.add(1, form)
    connection.cache.close([page] * len(connection.open([page])))
    cut(connection.file(page), size)
    with pytest.raises(DamagedPage, match=page[0].hex()):
        connection.open([page])
    assert connection.open([page])


def test_a_file_that_was_only_touched_is_hashed_once_and_sealed_again(
    connection: Connection, table: Table
) -> None:
    page = table.add(1)
    connection.open([page])
    sealed = connection.file(page).stat().st_mtime_ns
    connection.cache.close([page])
    connection.file(page).touch()
    connection.open([page])
    assert connection.file(page).stat().st_mtime_ns == sealed
    assert table.reads == 1


def look(connection: Connection, page: Page, view: memoryview) -> bool:
    """Ask after a page later than the span in which a second look is spared."""
    time.sleep(0.006)
    return connection.cache.still_sound([page], [view])


@pytest.mark.parametrize("form", ["f32", "f16"])
def test_a_page_changed_while_it_is_mapped_is_caught(
    connection: Connection, table: Table, form: str
) -> None:
    page = table.add(1, form)
    [view] = connection.open([page])
    assert look(connection, page, view)
    overwrite(connection.file(page), 5)
    time.sleep(0.006)
    with pytest.raises(DamagedPage, match=page[0].hex()):
        connection.cache.still_sound([page], [view])
    assert not look(connection, page, view)
    [anew] = connection.open([page])
    assert look(connection, page, anew)
    assert table.reads == 2


def test_a_file_cut_short_while_it_is_mapped_is_caught_without_reading_it(
    connection: Connection, table: Table
) -> None:
    page = table.add(1)
    [view] = connection.open([page])
    cut(connection.file(page), 4096)
    time.sleep(0.006)
    with pytest.raises(DamagedPage, match=page[0].hex()):
        connection.cache.still_sound([page], [view])


def test_damage_found_by_one_model_reopens_the_pages_of_all(
    connection: Connection, table: Table
) -> None:
    shared, other = table.add(1), table.add(2)
    one = connection.open([shared])
    two = connection.open([shared, other])
    overwrite(connection.file(shared), 5)
    time.sleep(0.006)
    with pytest.raises(DamagedPage):
        connection.cache.still_sound([shared], one)
    one = connection.open([shared])
    assert connection.cache.still_sound([shared], one)
    assert not connection.cache.still_sound([shared, other], two)


def test_check_hashes_what_a_seal_cannot_tell(connection: Connection, table: Table) -> None:
    pages = [table.add(1), table.add(2, "bf16"), table.add(3)]
    connection.open(pages[:2])
    assert connection.cache.check(pages) == 2  # the third is not in the cache
    for page in pages[:2]:
        sealed = connection.file(page).stat().st_mtime_ns
        overwrite(connection.file(page), 77)
        os.utime(connection.file(page), ns=(sealed, sealed))
    with pytest.raises(DamagedPage) as raised:
        connection.cache.check(pages)
    assert all(page[0].hex() in raised.value.message for page in pages[:2])
    assert pages[2][0].hex() not in raised.value.message
    assert connection.cache.check(pages) == 0
    assert connection.open(pages)


# -- the folder -----------------------------------------------------------------------------------


def test_a_vanished_folder_is_made_again_and_mappings_stay_valid(
    parent: Path, connection: Connection, table: Table
) -> None:
    pages = [table.add(seed) for seed in range(3)]
    views = connection.open(pages[:2])
    shutil.rmtree(connection.folder)
    assert bytes(views[0]) == table.pages[pages[0][0]]
    assert bytes(connection.open([pages[2]])[0]) == table.pages[pages[2][0]]
    assert not look(connection, pages[0], views[0])  # opened again, it is shared again
    Connection(parent, table).open(pages)
    assert table.reads == 5


def test_a_single_file_that_vanished_is_filled_again(
    parent: Path, connection: Connection, table: Table
) -> None:
    page = table.add(1)
    [view] = connection.open([page])
    connection.file(page).unlink()
    assert not look(connection, page, view)
    connection.cache.close([page])
    assert look(connection, page, connection.open([page])[0])
    assert table.reads == 2


def test_connections_survive_a_folder_that_keeps_vanishing(parent: Path, table: Table) -> None:
    pages = [table.add(seed, size=4096) for seed in range(8)]
    stop = time.monotonic() + 1

    def connect(number: int) -> int:
        connection = Connection(parent, table)
        rounds = 0
        while time.monotonic() < stop:
            if number == 0:
                shutil.rmtree(connection.folder, ignore_errors=True)
                continue
            views = connection.open(pages)
            sound = [bytes(v) == table.pages[d] for v, (d, _) in zip(views, pages, strict=True)]
            assert all(sound)
            connection.cache.close(pages)
            rounds += 1
        return rounds

    assert all(rounds > 0 for rounds in in_processes(4, connect)[1:])


def test_a_folder_that_others_may_enter_is_refused(connection: Connection, table: Table) -> None:
    connection.folder.mkdir(mode=0o755)
    connection.folder.chmod(0o755)
    with pytest.raises(ServerUnready) as raised:
        connection.open([table.add(1)])
    assert raised.value.message == (
        f"the page cache folder {connection.folder} has mode 0755, not 0700: "
        "others could have written to it"
    )
    assert raised.value.hint == (
        "remove it, or name another folder for it in the setting cache_folder"
    )


def test_a_link_in_place_of_the_folder_is_refused(
    parent: Path, connection: Connection, table: Table
) -> None:
    (parent / "elsewhere").mkdir(mode=0o700)
    connection.folder.symlink_to(parent / "elsewhere")
    with pytest.raises(ServerUnready, match="is not a folder"):
        connection.open([table.add(1)])


def test_a_file_in_place_of_the_folder_is_refused(connection: Connection, table: Table) -> None:
    connection.folder.write_text("")
    with pytest.raises(ServerUnready, match="is not a folder"):
        connection.open([table.add(1)])


@as_root
def test_a_folder_of_another_user_is_refused(connection: Connection, table: Table) -> None:
    connection.folder.mkdir(mode=0o700)
    os.chown(connection.folder, 65534, 65534)
    with pytest.raises(ServerUnready, match="belongs to user id 65534, not 0"):
        connection.open([table.add(1)])


def test_a_missing_parent_is_told(table: Table) -> None:
    with pytest.raises(ServerUnready, match="the folder around it is missing"):
        Connection(Path("/dev/shm/no-such-folder"), table).open([table.add(1)])


# -- no room --------------------------------------------------------------------------------------


@contextmanager
def mounted(where: Path, options: str) -> Iterator[None]:
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", where], check=True)


@as_root
def test_a_full_folder_leaves_pages_in_private_memory_with_one_warning(
    parent: Path, table: Table
) -> None:
    pages = [table.add(seed) for seed in range(5)]
    with mounted(parent / "tiny", "size=2200k"):
        connection = Connection(parent / "tiny", table)
        views = connection.open(pages)
        assert [bytes(view) for view in views] == [table.pages[digest] for digest, _ in pages]
        assert connection.told == [
            f"the page cache folder {connection.folder} takes no more pages "
            "(No space left on device): this connection keeps them in memory of its own"
        ]
        assert all(view.readonly for view in views)
        assert len(list(connection.folder.iterdir())) == 3  # two pages and the locks
        assert connection.cache.still_sound(pages, views)
        assert connection.cache.check(pages) == 5
        assert table.reads == 5
        connection.cache.close(pages)


@as_root
def test_a_read_only_folder_still_serves_what_it_holds(parent: Path, table: Table) -> None:
    held, missing = table.add(1), table.add(2)
    with mounted(parent / "tiny", "size=8m"):
        in_processes(1, lambda _: len(Connection(parent / "tiny", table).open([held])))
        subprocess.run(["mount", "-o", "remount,ro", parent / "tiny"], check=True)
        connection = Connection(parent / "tiny", table)
        views = connection.open([held, missing])
        assert table.reads == 1
        assert [bytes(v) for v in views] == [table.pages[d] for d, _ in (held, missing)]
        assert len(connection.told) == 1
        assert "Read-only file system" in connection.told[0]


@as_root
def test_a_read_only_parent_leaves_pages_in_private_memory(parent: Path, table: Table) -> None:
    page = table.add(1)
    with mounted(parent / "tiny", "size=8m,ro"):
        connection = Connection(parent / "tiny", table)
        assert bytes(connection.open([page])[0]) == table.pages[page[0]]
        assert connection.cache.check([page]) == 1
        assert len(connection.told) == 1


# -- open files -----------------------------------------------------------------------------------


def limit_open_files(more: int, hard: int | None = None) -> None:
    """Let this process open `more` files, and raise that itself up to `hard`."""
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while os.dup(0) < highest:  # take the free numbers below, too
        continue
    limit = highest + more
    kept = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, kept if hard is None else limit))


def test_mappings_take_their_descriptors_on_top_of_what_the_process_may_open(
    parent: Path, table: Table
) -> None:
    pages = [table.add(seed, size=64) for seed in range(100)]

    def connect(_: int) -> int:
        limit_open_files(20)
        return len(Connection(parent, table).open(pages))

    assert in_processes(1, connect) == [100]


def test_running_out_of_descriptors_is_told(parent: Path, table: Table) -> None:
    pages = [table.add(seed, size=64) for seed in range(100)]

    def connect(_: int) -> tuple[str, str]:
        limit_open_files(20, hard=20)
        try:
            Connection(parent, table).open(pages)
        except ServerUnready as error:
            return error.message, error.hint
        return "", ""

    [(message, hint)] = in_processes(1, connect)
    assert "has no file descriptor left" in message
    assert "LimitNOFILE" in hint

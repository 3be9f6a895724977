"""What connections see of the page cache: warm starts, one copy, damage told and then healed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import tiny_models
from cache_sessions import Session

from pageformer.cluster import private_folder
from pageformer.installed_server import server_account
from pageformer.loader.load import load

Connect = Callable[[], Session]


@pytest.fixture
def connect(database: str, tmp_path: Path) -> Iterator[Connect]:
    """Open connections to a database with a small model, of which the cache holds nothing yet."""
    with psycopg.connect(database) as loading:
        load(loading, str(tiny_models.write("bert-mean", tmp_path)), name="tiny")
    with ExitStack() as opened:

        def open_session() -> Session:
            session = Session(database)
            opened.enter_context(session.connection)
            return session

        first = open_session()
        first.encode()
        for file in first.mapped():
            file.unlink()
        yield open_session


def overwrite(file: Path, keep_time: bool = False) -> None:
    """Flip one bit of a file, as a stray process of the server's user could."""
    before = file.stat()
    file.chmod(0o600)
    with file.open("r+b") as opened:
        opened.seek(1000)
        [byte] = opened.read(1)
        opened.seek(1000)
        opened.write(bytes([byte ^ 1]))
    if keep_time:
        os.utime(file, ns=(before.st_mtime_ns, before.st_mtime_ns))


def damage_rows(session: Session) -> None:
    """Flip a bit in every row of the page table, as a broken disk could."""
    [(constraint,)] = session.run(
        "select conname from pg_constraint where conrelid = 'pageformer.page'::regclass"
        " and pg_get_constraintdef(oid) like %s",
        "%sha256%",
    )
    session.run(f"alter table pageformer.page drop constraint {constraint}")
    session.run("update pageformer.page set data = set_byte(data, 7, get_byte(data, 7) # 1)")


# -- one copy, warm -------------------------------------------------------------------------------


def test_a_second_connection_reads_no_page_from_the_table(connect: Connect) -> None:
    vector = connect().encode()
    damage_rows(connect())
    assert connect().encode() == vector


def test_ten_connections_hold_one_copy(minilm: str) -> None:
    with ExitStack() as opened:
        sessions = [Session(minilm) for _ in range(10)]
        for session in sessions:
            opened.enter_context(session.connection)
            session.encode("minilm")
        maps = [session.mapped() for session in sessions]
    files = set(maps[0])
    assert all(set(mapped) == files for mapped in maps)
    copy = sum(file.stat().st_size for file in files) // 1024
    assert copy > 80_000
    resident = [sum(sizes["Rss"] for sizes in mapped.values()) for mapped in maps]
    shares = sum(sizes["Pss"] for mapped in maps for sizes in mapped.values())
    copied = sum(sizes["Anonymous"] for mapped in maps for sizes in mapped.values())
    assert min(resident) > copy / 10  # each holds what it needs, and all together hold that once
    assert shares < 1.1 * max(resident)
    assert copied == 0


# -- damage ---------------------------------------------------------------------------------------


def test_a_damaged_row_is_told_by_name(connect: Connect) -> None:
    session = connect()
    damage_rows(session)
    told = session.refusal("select pageformer.encode('a', 'tiny')")
    assert told.sqlstate == "XX001"
    [[page]] = session.run(
        "select page from pageformer.pages where strpos(%s, page) > 0", told.message_primary
    )
    assert told.message_primary == (
        f"pageformer: page {page} in table pageformer.page is damaged: "
        "its bytes differ from the hash that names them"
    )
    assert "restore the table from a backup" in (told.message_hint or "")
    assert page in (session.refusal("select pageformer.verify('tiny')").message_primary or "")


@pytest.mark.parametrize("who", ["the connection that has it mapped", "a new connection"])
def test_a_damaged_cache_file_is_told_by_name_and_then_read_again(
    connect: Connect, who: str
) -> None:
    session = connect()
    vector = session.encode()
    [file, *_] = session.mapped()
    overwrite(file)
    if who == "a new connection":
        session = connect()
    told = session.refusal("select pageformer.encode('a', 'tiny')")
    assert told.sqlstate == "XX001"
    assert told.message_primary == (
        f"pageformer: damaged in the page cache {file.parent}: page {file.name}"
    )
    assert "repeat the query" in (told.message_hint or "")
    assert session.encode() == vector
    assert session.run("select pageformer.verify('tiny')") == [(len(session.pages()),)]


def test_verify_finds_damage_that_left_no_trace_of_a_write(connect: Connect) -> None:
    session = connect()
    vector = session.encode()
    [file, *_] = session.mapped()
    overwrite(file, keep_time=True)
    told = connect().refusal("select pageformer.verify('tiny')")
    assert told.sqlstate == "XX001"
    assert file.name in (told.message_primary or "")
    assert session.encode() == vector


def test_a_cache_file_cut_short_does_not_stop_the_server(connect: Connect) -> None:
    session = connect()
    vector = session.encode()
    [file, *_] = session.mapped()
    file.chmod(0o600)
    os.truncate(file, 4096)
    told = session.refusal("select pageformer.encode('a', 'tiny')")
    assert file.name in (told.message_primary or "")
    assert session.encode() == vector


# -- the folder -----------------------------------------------------------------------------------


def test_connections_outlive_the_cache_folder(connect: Connect) -> None:
    old = connect()
    vector = old.encode()
    [folder] = {file.parent for file in old.mapped()}
    shutil.rmtree(folder)
    new = connect()
    assert (old.encode(), new.encode()) == (vector, vector)
    assert set(old.mapped()) == set(new.mapped())  # and share again


@pytest.fixture
def cache_parent(tmp_path: Path) -> Path:
    """A folder that the server's user may enter and own."""
    parent = Path("/dev/shm") / f"parent-of-{os.getpid()}-{tmp_path.name}"
    private_folder(parent)
    return parent


@pytest.fixture
def moved(connect: Connect, cache_parent: Path) -> Iterator[Connect]:
    """Connections whose cache folder lies in `cache_parent`."""
    connect().run(
        "update pageformer.setting set value = %s where name = 'cache_folder'", str(cache_parent)
    )
    yield connect
    shutil.rmtree(cache_parent)


def test_a_folder_that_others_may_enter_is_refused(moved: Connect, cache_parent: Path) -> None:
    session = moved()
    vector = session.encode()
    [folder] = {file.parent for file in session.mapped()}
    assert folder.parent == cache_parent
    folder.chmod(0o755)
    told = moved().refusal("select pageformer.encode('a', 'tiny')")
    assert told.sqlstate == "55000"
    assert f"the page cache folder {folder} has mode 0755, not 0700" in (told.message_primary or "")
    assert "cache_folder" in (told.message_hint or "")
    folder.chmod(0o700)
    assert moved().encode() == vector


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a file system")
def test_a_full_cache_is_one_warning_and_the_same_vectors(
    moved: Connect, cache_parent: Path
) -> None:
    vector = moved().encode()
    owner = f"uid={server_account()['user']}" if "user" in server_account() else ""
    options = f"size=64k,{owner}".rstrip(",")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache_parent], check=True)
    try:
        session = moved()
        assert session.encode() == vector
        assert session.encode() == vector
        assert len(session.told) == 1
        assert (
            "(No space left on device): this connection keeps them in memory of its own"
            in (session.told[0])
        )
    finally:
        subprocess.run(["umount", "--lazy", cache_parent], check=True)

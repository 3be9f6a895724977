"""Bulk encoding on Ray: the bits of one process, each row written once, whoever is killed."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
import tiny_models
from noted_writes import DOCUMENTS
from test_embed import DOC, PROGRAM, Session, rows, state, value, vectors, written

from pageformer.embed import Range, connected, embed, ranges
from pageformer.embedded_column import Column, Request, prepare
from pageformer.errors import MissingGrant, ServerUnready
from pageformer.loader.load import load
from pageformer.scaling import actors, binary_copy, item
from pageformer.scaling.item import Encoded
from pageformer.scaling.text_encoder import TextEncoder, open_version

TEXTS = 2000
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="Ray is not installed")
WORKERS = """
    select substring(application_name from '[0-9]+')::integer from pg_stat_activity
    where application_name like 'pageformer worker %'
"""


@pytest.fixture
def session(database: str, tmp_path: Path) -> Iterator[Session]:
    """A model `tiny`, texts of several lengths, and a note of each vector that is written."""
    with psycopg.connect(database, autocommit=True) as session:
        load(session, tiny_models.write("bert-mean", tmp_path), name="tiny")
        session.execute(DOCUMENTS)
        session.execute(
            "insert into doc select n, 'number ' || n || repeat(' word', n %% 37) "
            "from generate_series(1, %s) n",
            [TEXTS],
        )
        yield session


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Where Ray keeps its sockets, whose paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


# -- with Ray -------------------------------------------------------------------------------------


def start(session: Session, folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["--table", "doc", "--column", "body", "--into", "embedding", "--model", "tiny"]
    command = [PROGRAM, "embed", *arguments, "--engine=ray", "--workers=2", "--batch=10", *options]
    return run(folder, *command, "--dsn", session.info.dsn)


def run(folder: Path, *command: object) -> subprocess.Popen[str]:
    """Run a command with its output in pipes and Ray's files in a folder."""
    return subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Ray would have its workers give way to whatever runs beside them.
        env={**os.environ, "RAY_TMPDIR": str(folder), "RAY_worker_niceness": "0"},
    )  # fmt: skip


def begin_anew(session: Session) -> None:
    """Forget all vectors, and that they were written."""
    session.execute("truncate pageformer.embedded_column cascade")
    session.execute("update doc set embedding = null; truncate written")


def linger(session: Session) -> None:
    """Let each row take four milliseconds."""
    session.execute(
        "create function linger() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.004); return new; end $$;"
        "create trigger linger before update on doc for each row execute function linger()"
    )


def wait_for_rows(session: Session, count: int, working: subprocess.Popen[str]) -> None:
    while value(session, "select count(embedding) from doc") < count:
        assert working.poll() is None, working.communicate()[1]
        time.sleep(0.02)


def kill_driver(session: Session, working: subprocess.Popen[str]) -> None:
    """Kill a driver, and wait until its workers have noticed."""
    working.kill()
    working.communicate()
    while rows(session, WORKERS):
        time.sleep(0.02)


def test_an_item_that_only_waited_behind_a_deadly_one_takes_no_blame() -> None:
    items = actors.Items(iter(["deadly", "behind"]))
    deadly, behind = next(items), next(items)
    for losses in range(1, actors.MOST_LOSSES):
        items.give_back(behind, in_work=False)
        items.give_back(deadly, in_work=True)
        behind, deadly = next(items), next(items)
        assert (behind.losses, deadly.losses) == (0, losses)
    with pytest.raises(ServerUnready, match="deadly"):
        items.give_back(deadly, in_work=True)


@needs_ray
def test_an_item_that_every_worker_dies_of_ends_the_run_by_its_name(
    monkeypatch: pytest.MonkeyPatch, ray_folder: Path
) -> None:
    class Dying:
        def ready(self) -> None:
            pass

        def work(self, number: int) -> int:
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

    monkeypatch.setattr(actors, "MOST_LOSSES", 3)
    monkeypatch.setenv("RAY_TMPDIR", str(ray_folder))
    done: list[int] = []
    message = "3 workers were lost, one after another, that had 3"
    with actors.cluster(None, 1) as ray, pytest.raises(ServerUnready, match=message):
        done.extend(actors.Pool(ray, Dying, 1).worked(iter(range(5))))
    assert {0, 1} <= {*done} <= {0, 1, 2, 4}


@needs_ray
def test_lost_workers_and_a_lost_driver_repeat_only_what_was_in_flight(
    session: Session, ray_folder: Path
) -> None:
    embed(session.info.dsn, DOC, batch=10)
    alone = vectors(session)
    begin_anew(session)
    linger(session)
    working = start(session, ray_folder)
    wait_for_rows(session, 100, working)
    [(worker,), _] = rows(session, WORKERS)
    os.kill(worker, signal.SIGKILL)
    wait_for_rows(session, 500, working)
    kill_driver(session, working)
    session.execute("drop trigger linger on doc")
    kept = value(session, "select count(embedding) from doc")
    assert 500 <= kept < TEXTS
    assert kept == value(session, "select count(*) from pageformer.embedded_row")

    told, _ = start(session, ray_folder).communicate()
    assert told == f"doc.embedding: {TEXTS - kept:,} texts encoded with tiny\n"
    assert written(session) == list(range(1, TEXTS + 1))
    assert vectors(session) == alone
    assert state(session) == ("v1", TEXTS, 0, 0)


# -- items, in this process -----------------------------------------------------------------------


@pytest.fixture
def column(session: Session) -> Iterator[tuple[Column, list[Range]]]:
    """The column, prepared, and ranges of twenty rows."""
    with connected(session.info.dsn) as finder:
        column = prepare(finder, DOC)
        yield column, list(ranges(finder, column, 20))[:3]


@pytest.fixture
def encoder(session: Session, column: tuple[Column, list[Range]]) -> TextEncoder:
    return open_version(session.info.dsn, column[0].version, "float32", alone=True)


def test_a_row_that_changes_while_it_is_encoded_is_left_as_it_is(
    session: Session, column: tuple[Column, list[Range]], encoder: TextEncoder
) -> None:
    def encode(texts: list[str]) -> Encoded:
        session.execute(
            "update doc set body = 'changed' where id = 7; delete from doc where id = 8"
        )
        return encoder(texts)

    with connected(session.info.dsn) as worker:
        item.prepare(worker, column[0])
        done = item.work(worker, column[1][0], encode)  # type: ignore[arg-type]
        assert done.rows == 18
        assert item.work(worker, column[1][0], encoder).rows == 1
    assert value(session, "select count(*) from doc where id <= 20 and embedding is null") == 0
    near = "select embedding <-> pageformer.encode('changed', 'tiny') from doc where id = 7"
    assert value(session, near) < 1e-5


def test_two_workers_with_the_same_rows_write_each_once(
    session: Session, column: tuple[Column, list[Range]], encoder: TextEncoder
) -> None:
    both = threading.Barrier(2)
    counts: list[int] = []

    def encode(texts: list[str]) -> Encoded:
        both.wait()
        return encoder(texts)

    def work() -> None:
        with connected(session.info.dsn) as worker:
            item.prepare(worker, column[0])
            counts.append(item.work(worker, column[1][1], encode).rows)  # type: ignore[arg-type]

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 20]
    assert written(session) == list(range(21, 41))


def test_partitions_are_cut_by_themselves(session: Session) -> None:
    session.execute(
        """
        create table part (id integer primary key, body text, embedding vector)
            partition by range (id);
        create table part_1 partition of part for values from (1) to (10);
        create table part_2 partition of part for values from (10) to (20)
            partition by range (id);
        create table part_3 partition of part_2 for values from (10) to (20);
        insert into part select n, 'text ' || n from generate_series(1, 19) n
        """
    )
    request = Request("part", "body", "embedding", "tiny", where="part.id <> 12")
    with connected(session.info.dsn) as finder:
        column = prepare(finder, request)
        pieces = list(ranges(finder, column, 8))
        assert [piece.until for piece in pieces] == [["8"], ["9"], ["18"], ["19"]]
        encode = open_version(session.info.dsn, column.version, "float32", alone=True)
        item.prepare(finder, column)
        assert sum(item.work(finder, piece, encode).rows for piece in pieces) == 18
    with psycopg.connect(session.info.dsn) as other:
        texts = other.execute("select count(*), count(embedding) from part").fetchall()
    assert texts == [(19, 18)]


def test_who_may_not_read_weights_is_no_worker(
    session: Session, column: tuple[Column, list[Range]]
) -> None:
    session.execute("create role onlooker login")
    try:
        with pytest.raises(MissingGrant, match="may not read weights"):
            open_version(f"{session.info.dsn} user=onlooker", column[0].version, "auto", alone=True)
    finally:
        session.execute("drop role onlooker")


def test_the_bytes_of_a_copy() -> None:
    assert b"".join(binary_copy.rows(["[1,-2]"])) == (
        b"PGCOPY\n\xff\r\n\0" + bytes(8)
        + b"\0\2" + b"\0\0\0\4" + b"\0\0\0\1"
        + b"\0\0\0\x0c" + b"\0\2\0\0" + b"\x3f\x80\0\0" + b"\xc0\0\0\0"
        + b"\xff\xff"
    )  # fmt: skip

"""100,000 texts on Ray, of whose workers one is killed every five seconds, and the driver once."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from noted_writes import DOCUMENTS
from test_embed import PROGRAM, Session, rows, state, value, written
from test_ray import WORKERS, begin_anew, kill_driver, needs_ray, run
from test_ray import ray_folder as ray_folder

from pageformer.embed import embed
from pageformer.embedded_column import Request
from pageformer.loader.load import load

MANY = 100_000
DOC = Request("doc", "body", "embedding", "minilm")
DIGESTS = "select id, md5(vector_send(embedding)) from doc order by id"


@pytest.fixture
def session(database: str, minilm_dir: Path) -> Iterator[Session]:
    """all-MiniLM-L6-v2, texts like titles, and a note of each vector that is written."""
    with psycopg.connect(database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        session.execute(DOCUMENTS)
        session.execute(
            "insert into doc select n, 'text number ' || n || repeat(' of words', n %% 3) "
            "from generate_series(1, %s) n",
            [MANY],
        )
        yield session


def start(session: Session, folder: Path) -> subprocess.Popen[str]:
    columns = ["--table", "doc", "--column", "body", "--into", "embedding", "--model", "minilm"]
    engine = ["--engine", "ray", "--workers", "2"]
    return run(folder, PROGRAM, "embed", *columns, *engine, "--dsn", session.info.dsn)


def kill_workers(session: Session, working: subprocess.Popen[str], until: int) -> int:
    """Kill a worker every five seconds until so many rows are done, and count the killed."""
    killed, killed_at = 0, time.monotonic()
    while working.poll() is None and value(session, "select count(embedding) from doc") < until:
        time.sleep(0.5)
        if time.monotonic() > killed_at + 5 and (found := rows(session, WORKERS)):
            os.kill(found[killed % len(found)][0], signal.SIGKILL)
            killed, killed_at = killed + 1, time.monotonic()
    return killed


@needs_ray
@pytest.mark.soak
def test_a_worker_killed_every_five_seconds_changes_nothing_but_the_time(
    session: Session, ray_folder: Path
) -> None:
    embed(session.info.dsn, DOC, workers=1)
    alone = rows(session, DIGESTS)
    begin_anew(session)

    working = start(session, ray_folder)
    killed = kill_workers(session, working, until=MANY // 2)
    assert working.poll() is None, working.communicate()[1]
    kill_driver(session, working)
    kept = value(session, "select count(embedding) from doc")
    assert MANY // 2 <= kept < MANY
    assert kept == value(session, "select count(*) from pageformer.embedded_row")

    working = start(session, ray_folder)
    killed += kill_workers(session, working, until=MANY + 1)
    told, wrong = working.communicate()
    assert working.returncode == 0, wrong
    print(f"{killed} workers were killed, and the driver after {kept} rows; {told}")
    assert killed >= 4
    assert written(session) == list(range(1, MANY + 1))
    assert rows(session, DIGESTS) == alone
    assert state(session) == ("v1", MANY, 0, 0)

"""Tasks through the serving process: what backends compute, for questions of many tasks at once."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
import tiny_tasks
from serving_process import Serving, serving, set_executor

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.loader.tasks import store
from pageformer.udfs.config import Config

Session = psycopg.Connection[Any]
KINDS = [kind.replace(" ", "-") for kind in tiny_tasks.KINDS]
ENCODE = "select pageformer.encode('a cat sat on the mat', 'tiny', task => %s)::text"
BATCH = "select pageformer.encode_batch(%s, 'tiny', tasks => %s)::text[]"
TOKENS = "select embedding::text from pageformer.encode_tokens('a cat', 'tiny', task => %s)"


def add(session: Session, name: str, kind: str, seed: int = 1) -> None:
    [row] = session.execute("select id, config from pageformer.version order by id").fetchall()
    base = Config.from_json(row[1])
    kind = kind.replace("-", " ")
    config = tiny_tasks.config_of(kind, base)
    request = store.Request(row[0], name, None, False, "a test")
    arrays = tiny_tasks.arrays_of(kind, base, seed)
    store.write(session, request, config.kind, config.to_json(), arrays)


@pytest.fixture(scope="module")
def tasks(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of one model with a task of each kind, named by it."""
    directory = tiny_models.write("bert-mean", tmp_path_factory.mktemp("model"))
    with psycopg.connect(module_database, autocommit=True) as session:
        load(session, str(directory), name="tiny")
        for kind in KINDS:
            add(session, kind, kind)
    return module_database


@pytest.fixture(scope="module")
def process(cluster: Cluster, tasks: str) -> Iterator[Serving]:
    with serving(cluster, tasks) as running:
        yield running


@pytest.fixture
def session(tasks: str, process: Serving) -> Iterator[Session]:
    with psycopg.connect(tasks, autocommit=True) as session:
        yield session
    set_executor(tasks, "backend")


def vectors(session: Session, query: str, *arguments: object) -> Any:
    """Return all vectors of an answer, one below the other."""
    rows = session.execute(query, arguments).fetchall()  # type: ignore[call-overload]
    texts = rows[0][0] if isinstance(rows[0][0], list) else [row[0] for row in rows]
    return np.array([json.loads(text) for text in texts], np.float32)


def answered(session: Session) -> int:
    [[found]] = session.execute("select sum(requests) from pageformer.serving")
    return int(found or 0)


@pytest.mark.parametrize("query", [ENCODE, TOKENS], ids=["encode", "encode_tokens"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_process_computes_the_task_that_the_backend_does(
    session: Session, kind: str, query: str
) -> None:
    own = vectors(session, query, kind)
    before = answered(session)
    set_executor(session.info.dsn, "serve")
    np.testing.assert_allclose(vectors(session, query, kind), own, atol=1e-5)
    assert answered(session) == before + 1


def test_a_batch_of_many_tasks_comes_back_in_order(session: Session) -> None:
    named = [KINDS[0], None, KINDS[1], KINDS[1], None, *KINDS]
    texts = [f"{i} cats sat on the mat" for i in range(len(named))]
    own = vectors(session, BATCH, texts, named)
    set_executor(session.info.dsn, "serve")
    np.testing.assert_allclose(vectors(session, BATCH, texts, named), own, atol=1e-5)


def test_connections_that_ask_for_different_tasks_each_get_their_own(session: Session) -> None:
    dsn, named = session.info.dsn, [*KINDS, None]
    own = {kind: vectors(session, ENCODE, kind) for kind in named}
    set_executor(dsn, "serve")
    differences: list[float] = []

    def ask(kind: str | None) -> None:
        with psycopg.connect(dsn, autocommit=True) as session:
            for _ in range(10):
                found = vectors(session, ENCODE, kind)
                differences.append(float(np.abs(found - own[kind]).max()))

    threads = [threading.Thread(target=ask, args=[kind]) for kind in named]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(differences) == 10 * len(named)
    assert max(differences) < 1e-5


def test_a_task_that_is_not_committed_is_computed_here_or_refused(session: Session) -> None:
    for executor in ("auto", "serve"):
        set_executor(session.info.dsn, executor)
        with session.transaction(force_rollback=True):
            add(session, "unborn", "biases", seed=2)
            if executor == "auto":
                assert session.execute(ENCODE, ["unborn"]).fetchone()
                continue
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
                session.execute(ENCODE, ["unborn"])
            assert "not committed yet" in str(caught.value)

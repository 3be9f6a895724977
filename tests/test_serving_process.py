"""The serving process beside a real server: the same vectors, whoever computes them."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from serving_process import Serving, serving, set_executor

from pageformer.cluster import Cluster
from pageformer.installed_server import server_account
from pageformer.loader.load import load

Session = psycopg.Connection[Any]
QUERY = "select pageformer.encode(%s, 'minilm')::text"
TEXTS = ["a", "which function rounds down?", "a much longer text " * 30]
QUERIES = {
    "encode": "select pageformer.encode('which one rounds down?', 'minilm')::text",
    "options": "select pageformer.encode('a', 'minilm', dimensions => 64, normalized => false)",
    "encode_batch": "select pageformer.encode_batch(array(select repeat('word ', i % 50) || i "
    "from generate_series(1, 200) i) || null, 'minilm')::text",
    "encode_tokens": "select * from pageformer.encode_tokens('a few tokens', 'minilm')",
    "encode_chunks": "select * from pageformer.encode_chunks(repeat('a text ', 400), 'minilm')",
    "another family": "select pageformer.encode('a text', 'modern')::text",
    "bfloat16": "select pageformer.encode('a text', 'narrow')::text",
    "int8": "select pageformer.encode('a text', 'narrower')::text",
}


@pytest.fixture(scope="module")
def models(module_database: str, minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of models that are computed in different ways."""
    tiny = tiny_models.write("modernbert-mean", tmp_path_factory.mktemp("modern"))
    with psycopg.connect(module_database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        load(session, str(minilm_dir), name="narrow")
        load(session, str(minilm_dir), name="narrower")
        load(session, str(tiny), name="modern")
        session.execute("select pageformer.set_compute('narrower', 'int8')")
        session.execute("select pageformer.set_compute('narrow', 'bfloat16')")
    return module_database


@pytest.fixture(scope="module")
def process(cluster: Cluster, models: str) -> Iterator[Serving]:
    with serving(cluster, models, "--metrics-port=0", "--cache-bytes=1000000") as running:
        yield running


@pytest.fixture
def session(models: str, process: Serving) -> Iterator[Session]:
    with psycopg.connect(models, autocommit=True) as session:
        yield session
    set_executor(models, "backend")


def answered(session: Session) -> int:
    """Count what the process has answered of `minilm`."""
    query = "select sum(requests + cache_hits) from pageformer.serving"
    [[found]] = session.execute(query)
    return int(found or 0)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_the_process_computes_what_the_backend_does(session: Session, query: str) -> None:
    own = session.execute(query).fetchall()
    before = answered(session)
    set_executor(session.info.dsn, "serve")
    assert session.execute(query).fetchall() == own
    assert answered(session) > before


def test_a_pinned_text_is_never_sent(session: Session) -> None:
    set_executor(session.info.dsn, "serve")
    before = answered(session)
    assert session.execute("select pageformer.encode_pinned('a', 'minilm@v1')").fetchone()
    assert answered(session) == before


def test_by_default_nothing_is_sent(session: Session) -> None:
    before = answered(session)
    session.execute(QUERY, ["nobody else hears this"])
    assert answered(session) == before


def test_auto_sends_single_short_texts_and_computes_batches_itself(session: Session) -> None:
    set_executor(session.info.dsn, "auto")
    before = answered(session)
    session.execute(QUERIES["encode_batch"])
    assert answered(session) == before
    session.execute(QUERY, ["short"])
    assert answered(session) == before + 1


def test_what_was_asked_before_is_answered_from_the_cache(session: Session) -> None:
    set_executor(session.info.dsn, "serve")
    hits = "select coalesce(sum(cache_hits), 0) from pageformer.serving"
    [[before]] = session.execute(hits)
    first = session.execute(QUERY, ["asked twice"]).fetchone()
    assert session.execute(QUERY, ["asked twice"]).fetchone() == first
    [[after]] = session.execute(hits)
    assert after == before + 1


def test_a_deploy_is_seen_at_once(session: Session, tmp_path: Path) -> None:
    set_executor(session.info.dsn, "serve")
    query = "select pageformer.encode('a text', 'changing')::text"
    for number, kind in enumerate(("bert-mean", "bert-max"), start=1):
        load(session, str(tiny_models.write(kind, tmp_path)), name="changing")
        session.execute(f"select pageformer.deploy('changing', 'v{number}')")  # type: ignore[arg-type]
        served = session.execute(query).fetchone()
        set_executor(session.info.dsn, "backend")
        assert session.execute(query).fetchone() == served
        set_executor(session.info.dsn, "serve")


def test_a_version_that_is_not_committed_is_computed_here_or_refused(
    session: Session, tmp_path: Path
) -> None:
    directory = tiny_models.write("bert-dense", tmp_path)
    query = "select pageformer.encode('a text', 'unborn')::text"
    for executor in ("auto", "serve"):
        set_executor(session.info.dsn, executor)
        with session.transaction(force_rollback=True):
            load(session, str(directory), name="unborn")
            if executor == "auto":
                assert session.execute(query).fetchone()
                continue
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
                session.execute(query)
            assert "not committed yet" in str(caught.value)


def test_a_role_sees_what_was_done_for_models_that_it_may_use(session: Session) -> None:
    set_executor(session.info.dsn, "serve")
    session.execute(QUERY, ["a"])
    session.execute(QUERIES["another family"])
    session.execute("create role guest; select pageformer.grant_use('minilm', 'guest')")
    try:
        session.execute("set role guest")
        found = session.execute("select distinct model from pageformer.serving").fetchall()
        assert found == [("minilm",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select * from pageformer.serving_place()")
    finally:
        session.execute("reset role")
        session.execute("select pageformer.revoke_use('minilm', 'guest'); drop role guest")


def test_an_executor_that_does_not_exist_is_told(session: Session) -> None:
    set_executor(session.info.dsn, "somebody")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="backend, auto, serve"):
        session.execute(QUERY, ["a"])


def test_prometheus_is_told_what_was_done(session: Session, process: Serving) -> None:
    set_executor(session.info.dsn, "serve")
    session.execute(QUERY, ["a"])
    told = urllib.request.urlopen(process.metrics, timeout=10).read().decode()
    assert 'pageformer_requests_total{compute="float32",version="' in told
    assert "pageformer_queue_seconds_bucket" in told
    assert "pageformer_page_bytes{" in told
    assert "pageformer_memory " in told


def test_a_second_process_for_the_same_database_is_refused(
    cluster: Cluster, models: str, process: Serving
) -> None:
    with serving(cluster, models) as second:
        assert second.said == "error: another process serves this database"


def test_a_version_that_does_not_fit_into_the_page_cache_is_served(
    cluster: Cluster, database: str, minilm_dir: Path
) -> None:
    with psycopg.connect(database, autocommit=True) as session:
        load(session, str(minilm_dir), name="minilm")
        own = session.execute(QUERY, ["a"]).fetchone()
        session.execute("update pageformer.setting set value = '60MB' where name = 'cache_limit'")
        set_executor(database, "serve")
        with serving(cluster, database):
            assert session.execute(QUERY, ["a"]).fetchone() == own
            assert session.execute(QUERY, ["a"]).fetchone() == own


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_run_by_root_it_serves_as_the_servers_user(
    cluster: Cluster, database: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)  # which that user cannot enter, like /root
    (tmp_path / "environment").symlink_to(sys.prefix)
    programs = tmp_path / "environment" / "bin"
    command = [programs / "python", programs / "pageformer", "serve", f"--dsn={database}"]
    environment = {**os.environ, "PAGEFORMER_HOME": str(cluster.home)}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline().startswith("serving database")
    assert Path(f"/proc/{running.pid}").stat().st_uid == server_account()["user"]
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=60)[0] == "stopping: 0 requests left\n"
    assert running.returncode == 0

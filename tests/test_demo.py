"""The demo: it answers, runs twice, and takes back what it made and nothing else.

Its clusters are copies of an installed one, and few descriptions are chosen before it runs, so that
it takes seconds; what it prints and what it keeps is the same.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import TEMPLATE
from temporary_cluster import temporary_cluster

from pageformer import demo
from pageformer.cluster import Cluster
from pageformer.errors import InvalidCheckpoint

PROGRAM = Path(sys.executable).parent / "pageformer"
ANSWER = "function initcap(text): capitalize each word"


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [PROGRAM, "demo", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PAGEFORMER_HOME": str(cluster.home)},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return done


def execute(cluster: Cluster, statement: str) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def choose_few(cluster: Cluster) -> None:
    """Leave the demo some descriptions to encode, and nothing of the tests' own in the cluster."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute(f"drop database {TEMPLATE}")
        connection.execute(
            'alter database pageformer set search_path = "$user", public, pageformer'
        )
        connection.execute(demo.QUERIES["prepare"])
        connection.execute(
            "insert into demo.description (object, body)"
            " select pg_describe_object(classoid, objoid, 0), description from pg_description"
            " where description like '%capital%' or objoid::integer % 100 = 0"
        )


@pytest.fixture(scope="module")
def stopped_after_demo(stopped_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster in which the demo ran, stopped, to be copied."""
    with temporary_cluster(stopped_cluster) as cluster:
        choose_few(cluster)
        run(cluster)
        cluster.stop()
        yield cluster


@pytest.fixture(scope="module")
def shown(stopped_after_demo: Cluster) -> Iterator[Cluster]:
    """A cluster of the user's in which the demo ran."""
    with temporary_cluster(stopped_after_demo) as cluster:
        run(cluster)
        yield cluster


@pytest.fixture
def made(stopped_after_demo: Cluster) -> Iterator[Cluster]:
    """A cluster that a demo made, and in which it ran."""
    with temporary_cluster(stopped_after_demo) as cluster:
        (cluster.home / "made-by-demo").touch()
        yield cluster


def test_each_question_is_answered_by_sql_that_is_shown(shown: Cluster) -> None:
    out = run(shown).stdout
    questions = re.findall(r"encode\('(.+?)', 'minilm'\)", out)
    assert questions == [*demo.QUESTIONS]
    assert len(re.findall(r"^  \d\.\d{3}  ", out, re.MULTILINE)) == 4 * len(questions)
    assert out.endswith("\nTry it yourself: .venv/bin/pageformer psql\n")


def test_the_nearest_description_answers(shown: Cluster) -> None:
    out = run(shown).stdout
    asked = out.split("make a word start with a capital letter")[1]
    assert asked.splitlines()[5] == f"  0.225  {ANSWER}"


def test_the_shown_sql_is_what_a_user_can_type(shown: Cluster) -> None:
    out = run(shown).stdout
    typed = re.findall(r"^select .+?;$", out, re.MULTILINE | re.DOTALL)
    assert len(typed) == len(demo.QUESTIONS)
    with psycopg.connect(shown.dsn) as connection:
        for statement in typed:
            assert len(connection.execute(statement.encode()).fetchall()) == 4


def test_a_pipe_gets_plain_text(shown: Cluster) -> None:
    done = run(shown)
    assert "\x1b" not in done.stdout + done.stderr


def test_the_second_run_loads_and_encodes_nothing(shown: Cluster) -> None:
    assert run(shown).stderr == ""


def test_every_row_of_pg_description_is_collected(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(demo.QUERIES["prepare"])
        connection.execute(demo.QUERIES["collect"])
        missing = """
            select description from pg_description except all select body from demo.description
        """
        assert connection.execute(missing).fetchall() == []
        count = connection.execute("select count(*) from demo.description").fetchone()
    assert count is not None
    assert count[0] > 4000


def test_every_description_is_encoded_and_indexed(shown: Cluster) -> None:
    with psycopg.connect(shown.dsn) as connection:
        query = "select count(*) from demo.description where embedding is null"
        assert connection.execute(query).fetchone() == (0,)
        index = "select indexdef from pg_indexes where schemaname = 'demo' and indexdef ~ 'hnsw'"
        assert len(connection.execute(index).fetchall()) == 1


def test_removing_leaves_nothing_of_a_cluster_that_the_demo_made(made: Cluster) -> None:
    assert "removed the cluster" in run(made, "--remove").stderr
    assert not made.home.exists()


def test_removing_spares_a_cluster_with_data_of_the_users(made: Cluster) -> None:
    execute(made, "create table notes as select 'mine' as note")
    told = run(made, "--remove").stderr
    assert "kept the cluster" in told
    assert "table notes" in told
    with psycopg.connect(made.dsn) as connection:
        assert connection.execute("select note from notes").fetchone() == ("mine",)
        assert connection.execute("select count(*) from pageformer.models").fetchone() == (0,)
        assert connection.execute("select to_regnamespace('demo')").fetchone() == (None,)


def test_removing_names_whatever_else_is_there(made: Cluster) -> None:
    users = {
        "create database thesis": "database thesis",
        "create role ada login": "role ada",
        "create function public.twice(int) returns int return 2 * $1": "function twice(integer)",
        "select lo_create(4711)": "large object 4711",
        "create schema work": "schema work",
        "create type public.mood as enum ('calm')": "type mood",
        "create table demo.kept (a integer)": "table demo.kept",
    }
    for statement in users:
        execute(made, statement)
    assert {*demo.others(made)} >= {*users.values()}
    assert "kept the cluster" in run(made, "--remove").stderr
    assert made.exists


def test_removing_spares_a_cluster_that_the_demo_did_not_make(made: Cluster) -> None:
    (made.home / "made-by-demo").unlink()
    assert "the demo did not make it" in run(made, "--remove").stderr
    assert made.running


def test_removing_spares_what_a_view_of_the_users_reads(made: Cluster) -> None:
    execute(made, "create view short as select body from demo.description")
    assert "view short" in run(made, "--remove").stderr
    with psycopg.connect(made.dsn) as connection:
        assert connection.execute("select count(*) > 0 from short").fetchone() == (True,)


def test_removing_starts_and_stops_a_server_that_was_down(own_cluster: Cluster) -> None:
    own_cluster.stop()
    run(own_cluster, "--remove")
    assert own_cluster.exists
    assert not own_cluster.running


def test_weights_that_are_others_are_refused(
    minilm_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / demo.PACKAGE
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"others")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, demo.PACKAGE, raising=False)
    with pytest.raises(InvalidCheckpoint, match="sha256"):
        demo.model_folder()

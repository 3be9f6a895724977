"""Tasks added from files and run by SQL give what their libraries give, within 1e-5."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from reference.texts import SOME, TEXTS
from test_task_forms import BASES, SAVED, TASKS

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.loader.tasks.add import Source, add
from pageformer.udfs.heads import scored

Connection = psycopg.Connection[Any]
TOLERANCE = 1e-5
LONGEST = 12  # tokens that are recorded of a text: longer ones were cut
ANSWERING = [name for name in SAVED if "logits" in np.load(TASKS / name / "expected.npz")]


@pytest.fixture(scope="module")
def session(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    folder = tmp_path_factory.mktemp("bases")
    dsn = create_database(cluster, "task_parity")
    with psycopg.connect(dsn, autocommit=True) as session:
        for base in BASES:
            load(session, tiny_models.write(base, folder), name=base)
        for saved in SAVED:
            library, base, name = saved.split("/")
            add(session, Source(str(TASKS / saved)), model=base, name=f"{library}-{name}")
        session.execute("set search_path = pageformer, public")
        yield session
    drop_database(cluster, "task_parity")


def whole(expected: Any) -> list[tuple[str, Any, int]]:
    """Choose texts that were not cut: each with its states and its number."""
    lengths = expected["lengths"].astype(int)
    states = np.split(expected["states"], np.cumsum(lengths)[:-1])
    every = enumerate(zip(SOME, states, strict=True))
    return [(TEXTS[name], state, i) for i, (name, state) in every if len(state) < LONGEST]


def called(saved: str) -> tuple[str, str]:
    """Return the model and the task that a saved directory was added as."""
    library, base, name = saved.split("/")
    return base, f"{library}-{name}"


@pytest.mark.parametrize("saved", SAVED)
def test_a_task_in_sql_is_what_its_library_computes(session: Connection, saved: str) -> None:
    model, task = called(saved)
    texts = whole(np.load(TASKS / saved / "expected.npz"))
    assert len(texts) > 1
    for text, states, _ in texts:
        rows = session.execute(
            "select embedding::text from encode_tokens(%s, %s, task => %s) order by index",
            (text, model, task),
        ).fetchall()
        found = np.array([json.loads(row) for (row,) in rows])
        assert found == pytest.approx(states, abs=TOLERANCE)


@pytest.mark.parametrize("saved", ANSWERING)
def test_a_task_in_sql_answers_as_its_library_does(session: Connection, saved: str) -> None:
    model, task = called(saved)
    expected = np.load(TASKS / saved / "expected.npz")
    [(own, version)] = session.execute(
        "select t.config, v.config from task t join version v on v.id = t.version_id"
        " join model m on m.deployed_id = v.id where m.name = %s and t.name = %s",
        (model, task),
    ).fetchall()
    head = json.loads(own)["head"] or json.loads(version)["head"]
    lengths = np.cumsum(expected["lengths"].astype(int))
    for text, states, i in whole(expected):
        if head["task"] == "sequence":
            rows = session.execute(
                "select label, score from classify(%s, %s, task => %s)", (text, model, task)
            ).fetchall()
            scores = scored(expected["logits"][i : i + 1], head["scores"])[0]
            wanted = dict(zip(head["labels"], scores.tolist(), strict=True))
            assert dict(rows) == pytest.approx(wanted, abs=TOLERANCE)
        else:
            rows = session.execute(
                "select label, score from classify_tokens(%s, %s, task => %s)", (text, model, task)
            ).fetchall()
            logits = expected["logits"][lengths[i] - len(states) : lengths[i]][1:-1]
            shares = scored(logits, "softmax")
            assert [label for label, _ in rows] == [
                head["labels"][j] for j in shares.argmax(axis=1)
            ]
            assert [score for _, score in rows] == pytest.approx(shares.max(axis=1), abs=TOLERANCE)

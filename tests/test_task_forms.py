"""Tasks as libraries save them, read into normal form: equal to the library's own forward pass.

`tests/reference/record_tasks.py` saved the directories and recorded what the libraries compute.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from conftest import create_database, drop_database
from plain_pass import PlainPass

from pageformer.cluster import Cluster
from pageformer.loader.checkpoint import read as read_checkpoint
from pageformer.loader.load import load
from pageformer.loader.tasks.add import Source, read
from pageformer.loader.tasks.base import Base
from pageformer.udfs.blocks import widen

TASKS = Path(__file__).parent / "reference" / "tasks"
SAVED = sorted(str(p.parent.relative_to(TASKS)) for p in TASKS.glob("*/*/*/expected.npz"))
BASES = sorted({name.split("/")[1] for name in SAVED})
# Families whose pass is not the plain one; their tasks are compared where they run.
OTHERS = ("mpnet", "modernbert", "deberta")
TOLERANCE = 1e-5

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bases, written for as long as the module runs."""
    folder = tmp_path_factory.mktemp("bases")
    for base in BASES:
        tiny_models.write(base, folder)
    return folder


@pytest.fixture(scope="module")
def connection(cluster: Cluster, folder: Path) -> Iterator[Connection]:
    dsn = create_database(cluster, "task_forms")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for base in BASES:
            load(connection, folder / base, name=base)
        yield connection
    drop_database(cluster, "task_forms")


@cache
def plain(directory: Path) -> tuple[Any, dict[str, Any]]:
    """Read a base's config and tensors."""
    checkpoint = read_checkpoint(directory)
    tensors = {
        name: widen(np.ascontiguousarray(w.array).tobytes(), w.form).reshape(w.shape)
        for name, w in checkpoint.weights.items()
    }
    return checkpoint.config, tensors


@pytest.mark.parametrize("name", [n for n in SAVED if not n.split("/")[1].startswith(OTHERS)])
def test_a_task_in_normal_form_is_what_its_library_computes(
    connection: Connection, folder: Path, name: str
) -> None:
    base = name.split("/")[1]
    task = read(Source(str(TASKS / name)), Base(connection, base))
    config, tensors = plain(folder / base)
    plain_pass = PlainPass(config, tensors, task.config, task.arrays)
    expected = np.load(TASKS / name / "expected.npz")
    states, logits = [], []
    for ids in np.split(expected["ids"].astype(np.int64), np.cumsum(expected["lengths"])[:-1]):
        every = plain_pass.states(ids)
        states.append(every[-len(ids) :])
        if "logits" in expected:
            logits.append(plain_pass.logits(every))
    assert np.concatenate(states) == pytest.approx(expected["states"], abs=TOLERANCE)
    if logits:
        assert np.concatenate(logits) == pytest.approx(expected["logits"], abs=TOLERANCE)

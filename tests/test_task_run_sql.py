"""Tasks through SQL: which one a name means, what it computes, and what is told when it cannot."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psycopg
import pytest
import tiny_models
import tiny_tasks
from cpu_models import layout_of
from numpy.testing import assert_allclose

from pageformer.loader.checkpoint import read
from pageformer.loader.load import load
from pageformer.loader.tasks import store
from pageformer.udfs import composed
from pageformer.udfs.model import Model, assemble
from pageformer.udfs.operators import Operators
from pageformer.udfs.tasks import task_run
from pageformer.udfs.tasks.task import TaskConfig
from pageformer.udfs.tasks.task_array import floats
from pageformer.udfs.tokenizer import Tokenizer

TEXT = "a cat sat on the mat"
TEXTS = [TEXT, "dogs", None, "a dog and a cat", TEXT]
LABELS = ["no", "yes", "perhaps"]


def add(session: Any, name: str, config: TaskConfig, arrays: Any, label: str | None = None) -> None:
    [row] = session.execute("select id from pageformer.version order by id limit 1").fetchall()
    request = store.Request(row[0], name, label, label is not None, "a test")
    store.write(session, request, config.kind, config.to_json(), arrays)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write("bert-mean", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    return assemble(layout_of(read(directory)), Operators())


@pytest.fixture(scope="module")
def session(module_database: str, directory: Path, model: Model) -> Iterator[Any]:
    with psycopg.connect(module_database, autocommit=True) as session:
        load(session, str(directory), name="tiny")
        for kind in tiny_tasks.KINDS:
            config = tiny_tasks.config_of(kind, model.config)
            add(session, name(kind), config, tiny_tasks.arrays_of(kind, model.config))
        add(session, "labels", *labelling(model))
        session.execute("set search_path = pageformer, public")
        yield session


def name(kind: str) -> str:
    return kind.replace(" ", "-")


def labelling(model: Model) -> tuple[TaskConfig, Any]:
    """A LoRA with a head of its own."""
    draw, h = np.random.default_rng(7), model.config.hidden
    steps = [{"activation": None, "norm": False, "bias": True, "width": len(LABELS)}]
    head = {"task": "sequence", "steps": steps, "labels": LABELS, "pooling": "cls"}
    arrays = tiny_tasks.low_rank(draw, model.config)
    arrays["head.0.weight"] = floats(draw.standard_normal((h, len(LABELS))))
    arrays["head.0.bias"] = floats(draw.standard_normal(len(LABELS)))
    return TaskConfig("lora", head={**head, "scores": "softmax"}), arrays


def vector(text: str) -> Any:
    return np.array(json.loads(text), np.float32)


def ids_of(directory: Path, text: str) -> list[int]:
    tokenizer = Tokenizer((directory / "tokenizer.json").read_bytes, 64)
    return tokenizer.encode(text).ids


@pytest.mark.parametrize("kind", tiny_tasks.KINDS)
def test_encode_computes_the_task(session: Any, model: Model, directory: Path, kind: str) -> None:
    config = tiny_tasks.config_of(kind, model.config)
    task = task_run.read(model, config, tiny_tasks.arrays_of(kind, model.config))
    [expected] = composed.encode(model, [ids_of(directory, TEXT)], lambda: None, 0, [task])
    [(got,)] = session.execute("select encode(%s, 'tiny', task => %s)::text", (TEXT, name(kind)))
    assert np.abs(vector(got) - expected).max() < 1e-5


def test_a_mixed_batch_gives_each_input_its_task(session: Any) -> None:
    tasks = ["low-rank", None, "mask", "prompt", "bottlenecks"]
    [(batch,)] = session.execute(
        "select encode_batch(%s, 'tiny', tasks => %s)::text[]", (TEXTS, tasks)
    )
    for text, task, got in zip(TEXTS, tasks, batch, strict=True):
        [(alone,)] = session.execute("select encode(%s, 'tiny', task => %s)::text", (text, task))
        if text is None:
            assert got is None
        else:
            assert np.abs(vector(got) - vector(alone)).max() < 1e-5


def test_tokens_of_a_text_are_those_without_the_task(session: Any) -> None:
    call = "select token, embedding from encode_tokens('a cat', 'tiny', task => %s)"
    plain, prompted = (session.execute(call, [t]).fetchall() for t in (None, "prompt"))
    assert [token for token, _ in plain] == [token for token, _ in prompted]
    assert plain != prompted


def test_a_task_answers_with_its_own_head(session: Any) -> None:
    rows = session.execute("select label, score from classify('a cat', 'tiny', task => 'labels')")
    found = dict(rows.fetchall())
    assert set(found) == {*LABELS}
    assert sum(found.values()) == pytest.approx(1)
    batch = session.execute(
        "select label, score from classify_batch(%s, 'tiny', tasks => %s) where index = 2",
        (["a dog", "a cat"], ["labels", "labels"]),
    )
    assert dict(batch.fetchall()) == pytest.approx(found, rel=1e-5)


def refusal(session: Any, call: str) -> tuple[str, str, str | None]:
    with pytest.raises(psycopg.Error) as error:
        session.execute(f"select {call}")
    diagnosis = error.value.diag
    return diagnosis.sqlstate or "", diagnosis.message_primary or "", diagnosis.message_hint


def test_an_unknown_task_is_told_with_those_that_there_are(session: Any) -> None:
    state, message, hint = refusal(session, "encode('a', 'tiny', task => 'legal')")
    assert (state, message) == ("42704", 'pageformer: tiny@v1 has no task "legal"')
    assert hint is not None
    assert "mask" in hint
    assert hint.startswith("its tasks: biases, bottlenecks")


def test_a_version_of_a_task_that_is_not_there_is_told(session: Any) -> None:
    _, message, hint = refusal(session, "encode('a', 'tiny', task => 'mask@v7')")
    assert message == 'pageformer: tiny@v1 has no task "mask@v7"'
    assert hint is not None
    assert "mask@v1" in hint


def test_tasks_are_one_for_each_input(session: Any) -> None:
    state, message, _ = refusal(session, "encode_batch('{a,b}', 'tiny', tasks => '{mask}')")
    assert (state, message) == ("22023", "pageformer: there are 1 tasks for 2 inputs")
    both = refusal(session, "encode_batch('{a}', 'tiny', task => 'mask', tasks => '{mask}')")
    assert both[1] == "pageformer: task and tasks are both given"


def test_a_task_without_a_head_classifies_nothing(session: Any) -> None:
    state, message, _ = refusal(session, "* from classify('a', 'tiny', task => 'mask')")
    assert state == "0A000"
    assert "does not have a head that classifies texts" in message


def test_a_name_means_what_is_deployed_in_the_statement(session: Any, model: Model) -> None:
    call = "select encode('a cat', 'tiny', task => 'moving')::text"
    config = tiny_tasks.config_of("low rank", model.config)
    add(session, "moving", config, tiny_tasks.arrays_of("low rank", model.config, 3))
    [(first,)] = session.execute(call)
    add(session, "moving", config, tiny_tasks.arrays_of("low rank", model.config, 4), "next")
    session.execute("select deploy_task('tiny', 'moving', 'next')")
    [(second,)] = session.execute(call)
    session.execute("select deploy_task('tiny', 'moving', 'v1')")
    [(third,)] = session.execute(call)
    assert first == third != second
    [(pinned,)] = session.execute("select encode('a cat', 'tiny', task => 'moving@next')::text")
    assert pinned == second


@pytest.mark.parametrize("compute", ["bfloat16", "int8"])
def test_a_call_with_tasks_is_computed_in_float32(session: Any, compute: str) -> None:
    call = "select encode_batch(array['a', 'b'], 'tiny', tasks => array['mask', null])::text[]"
    [(before,)] = session.execute(call)
    session.execute("select set_compute('tiny', %s)", [compute])
    try:
        [(after,)] = session.execute(call)
    finally:
        session.execute("select set_compute('tiny', 'float32')")
    assert before == after


def test_chunks_of_a_task(session: Any) -> None:
    text = "the cat sat on the mat and the dog ran to the cat " * 4
    chunks = session.execute(
        "select chunk, embedding::text from encode_chunks(%s, 'tiny', 16, task => 'prompt')", [text]
    ).fetchall()
    assert len(chunks) > 1
    for chunk, vector in chunks:
        [(alone,)] = session.execute("select encode(%s, 'tiny', task => 'prompt')::text", [chunk])
        assert_allclose(orjson.loads(vector), orjson.loads(alone), atol=1e-5)

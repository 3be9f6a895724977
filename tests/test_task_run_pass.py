"""The forward pass with tasks: against versions that tasks amount to, and mixed against apart."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import tiny_models
import tiny_tasks
from backends_present import cpu_variant
from cpu_models import layout_of
from task_passes import LENGTHS, encoded, sequences, task

from pageformer.loader.checkpoint import read
from pageformer.udfs import composed, encoder
from pageformer.udfs.layout import Layout
from pageformer.udfs.model import Model, assemble
from pageformer.udfs.operators import Operators
from pageformer.udfs.tasks import task_run
from pageformer.udfs.tasks.task_run import Task

FAMILIES = ("bert-mean", "roberta-mean")
VARIANTS = ("avx512", "avx2", "portable")


@pytest.fixture(scope="module", params=FAMILIES)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_of(read(tiny_models.write(request.param, tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module", params=("numpy", *VARIANTS))
def model(request: pytest.FixtureRequest, layout: Layout) -> Model:
    return assemble(layout, operators(request.param))


def operators(name: str) -> Operators:
    return Operators() if name == "numpy" else cpu_variant(name)


@pytest.mark.parametrize("kind", tiny_tasks.MERGED)
def test_edits_equal_the_version_they_amount_to(model: Model, kind: str) -> None:
    ids = sequences(model)
    got = encoded(model, ids, [task(model, kind)] * len(ids))
    arrays = tiny_tasks.arrays_of(kind, model.config)
    expected = encoded(tiny_tasks.merged(model, arrays), ids)
    assert np.abs(got - expected).max() < 1e-5
    assert np.abs(got - encoded(model, ids)).max() > 1e-2  # the task does something


def every_kind(model: Model) -> list[Task | None]:
    return [None, *(task(model, kind) for kind in tiny_tasks.KINDS), task(model, "mask", 2)]


def mixes(tasks: list[Task | None]) -> Iterator[list[Task | None]]:
    for seed in range(3):
        order = tasks * 2
        random.Random(seed).shuffle(order)
        yield order


def test_a_mixed_batch_equals_its_rows_apart(model: Model) -> None:
    tasks = every_kind(model)
    ids = sequences(model, (LENGTHS * 4)[: 2 * len(tasks)])
    for mix in mixes(tasks):
        together = encoded(model, ids, mix)
        for row, text, own in zip(together, ids, mix, strict=True):
            alone = encoded(model, [text], [own])[0]
            if model.operators.name == "cpu":
                assert row.tobytes() == alone.tobytes()
            assert np.abs(row - alone).max() < 1e-6 * np.linalg.norm(alone)


def test_backends_agree_on_every_kind(model: Model, layout: Layout) -> None:
    plain = assemble(layout, Operators())
    ids = sequences(model)
    for kind in tiny_tasks.KINDS:
        got = encoded(model, ids, [task(model, kind)] * len(ids))
        expected = encoded(plain, ids, [task(plain, kind)] * len(ids))
        assert np.abs(got - expected).max() < 1e-5, kind


def test_states_leave_virtual_tokens_out(model: Model) -> None:
    [ids] = sequences(model, (6,))
    made = composed.ComposedEncoder(model, [task(model, "prompt")])
    assert len(made.states(ids, None, None, lambda: None)) == 6


@pytest.mark.parametrize("kind", tiny_tasks.ADDED)
def test_what_is_added_changes_the_answer(model: Model, kind: str) -> None:
    ids = sequences(model)
    got = encoded(model, ids, [task(model, kind)] * len(ids))
    assert np.isfinite(got).all()
    assert np.abs(got - encoded(model, ids)).max() > 1e-3


def test_virtual_tokens_are_tokens_in_front(model: Model) -> None:
    """A prompt of the words' own embeddings is those words, as peft has it."""
    [ids] = sequences(model, (9,))
    made = task(model, "prompt")
    words = model.operators.rows(np.asarray(ids[:3]), model.matrices["embeddings.word"])
    own = task_run.Task(made.config, model, {"embeddings": words}, {})
    assert np.abs(encoded(model, [ids[3:]], [own]) - encoded(model, [ids])).max() < 1e-6


def test_a_prefix_of_what_other_tokens_say_stands_for_them(model: Model) -> None:
    """Keys and values of a sequence's own beginning, in a model of one layer's depth."""
    [ids] = sequences(model, (9,))
    layer = model.layer(0)
    x = encoder.embeddings(model, encoder.join([ids]))
    keys, values = (encoder.plain(model, p, x)[:4] for p in (layer.key, layer.value))
    q, k, v = (encoder.plain(model, p, x) for p in (layer.query, layer.key, layer.value))
    whole = model.operators.attention(q, k, v, [0, 9], model.config.heads)
    terms = [task_run.Term(0, 5, task_run.Prefix(keys, values))]
    rest = encoder.attend_with_prefixes(
        model.operators,
        (q[4:], k[4:], v[4:]),
        [0, 5],
        model.config.heads,
        encoder.Distances(),
        terms,
    )
    assert np.abs(rest - whole[4:]).max() < 1e-6

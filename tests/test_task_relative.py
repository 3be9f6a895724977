"""Tasks over models that have embeddings of distances: edits reach what is made of these."""

import random
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_tasks
from cpu_models import layout_of
from task_passes import LENGTHS, encoded, sequences, task

from pageformer.errors import NotBuilt
from pageformer.loader.checkpoint import read
from pageformer.udfs import heads
from pageformer.udfs.model import Model, assemble
from pageformer.udfs.operators import Operators
from pageformer.udfs.tokenizer import Tokens


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return made("deberta-v3-mean", tmp_path_factory.mktemp("model"))


def made(name: str, folder: Path) -> Model:
    return assemble(layout_of(read(tiny_models.write(name, folder))), Operators())


@pytest.mark.parametrize("kind", tiny_tasks.MERGED)
def test_edits_equal_the_version_they_amount_to(model: Model, kind: str) -> None:
    ids = sequences(model)
    got = encoded(model, ids, [task(model, kind)] * len(ids))
    arrays = tiny_tasks.arrays_of(kind, model.config)
    expected = encoded(tiny_tasks.merged(model, arrays), ids)
    assert np.abs(got - expected).max() < 1e-5
    assert np.abs(got - encoded(model, ids)).max() > 1e-2  # the task does something


def test_a_mixed_batch_equals_its_rows_apart(model: Model) -> None:
    kinds = [kind for kind in tiny_tasks.KINDS if kind != "prefix"]
    tasks = [None, *(task(model, kind) for kind in kinds)]
    ids = sequences(model, (LENGTHS * 4)[: 2 * len(tasks)])
    mix = tasks * 2
    random.Random(1).shuffle(mix)
    for row, text, own in zip(encoded(model, ids, mix), ids, mix, strict=True):
        alone = encoded(model, [text], [own])[0]
        assert np.abs(row - alone).max() < 1e-6 * np.linalg.norm(alone)


def test_no_text_is_no_vector(model: Model) -> None:
    assert encoded(model, [], []).shape == (0, model.config.hidden)
    assert encoded(model, [[]], [None]).shape == (1, model.config.hidden)


def test_prefixes_are_refused_by_the_familys_name(model: Model) -> None:
    with pytest.raises(NotBuilt, match="models of family deberta-v2 take no prefixes"):
        task(model, "prefix")


def test_batches_of_a_head_are_learnt_from(tmp_path: Path) -> None:
    model = made("bert-sequence", tmp_path)
    guessed = model.learnt.cost
    tokens = [Tokens(ids, False) for ids in sequences(model)]
    heads.sequence_logits(model, tokens, lambda: None, [task(model, "biases")] * len(tokens))
    assert model.learnt.cost != guessed
    assert [*model.learnt.cost.kinds] == ["biases"]

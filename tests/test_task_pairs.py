"""A fine-tuned checkpoint as a task: checked to differ just as it is said, and by how much."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from plain_pass import PlainPass
from tiny_files import write_safetensors

from pageformer.errors import InvalidInput, InvalidTask
from pageformer.loader.checkpoint import read as read_checkpoint
from pageformer.loader.load import load
from pageformer.loader.safetensors_file import read_tensors
from pageformer.loader.tasks.add import Source, add, read
from pageformer.loader.tasks.base import Base
from pageformer.udfs.blocks import widen

IDS = np.array([2, 17, 5, 301, 9, 44, 3])
Tensors = dict[str, Any]
Connection = psycopg.Connection[Any]
Tune = Callable[[Callable[[Tensors], None]], Path]

QUERY = "bert.encoder.layer.1.attention.self.query"
WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.fixture
def base(database: str, tmp_path: Path) -> Iterator[Base]:
    with psycopg.connect(database, autocommit=True) as connection:
        load(connection, tiny_models.write("bert-sequence", tmp_path), name="tiny")
        yield Base(connection, "tiny")


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    """Write the base once more, changed."""

    def tune(change: Callable[[Tensors], None]) -> Path:
        directory = tiny_models.write("bert-sequence", tmp_path / "tuned")
        path = directory / "model.safetensors"
        tensors: Tensors = {n: np.array(t.array) for n, t in read_tensors(path).items()}
        change(tensors)
        write_safetensors(path, tensors)
        return directory

    return tune


def biases(tensors: Tensors) -> None:
    draw = np.random.RandomState(1)
    for name, tensor in tensors.items():
        if tensor.ndim == 1 and "pooler" not in name:
            tensor += draw.standard_normal(tensor.shape).astype(np.float32) * 0.1


def sparse(tensors: Tensors) -> None:
    draw = np.random.RandomState(2)
    for name, tensor in tensors.items():
        if "encoder" in name or name == WORDS:
            tensor += (draw.rand(*tensor.shape) < 0.01) * draw.standard_normal(tensor.shape)


def masked(tensors: Tensors) -> None:
    draw = np.random.RandomState(3)
    for name, tensor in tensors.items():
        if "encoder" in name and tensor.ndim == 2:
            tensor *= draw.rand(*tensor.shape) < 0.95
    tensors["classifier.weight"] += 1


def outputs(directory: Path) -> Any:
    checkpoint = read_checkpoint(directory)
    plain = PlainPass(checkpoint.config, whole(directory))
    states = plain.states(IDS)
    return states, plain.logits(states)


def whole(directory: Path) -> dict[str, Any]:
    return {
        name: widen(np.ascontiguousarray(w.array).tobytes(), w.form).reshape(w.shape)
        for name, w in read_checkpoint(directory).weights.items()
    }


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("bitfit", biases, r"bitfit: 2,\d+ of 2\d\d,\d+ numbers differ, all of them in biases"),
        ("diff", sparse, r"diff: 1,994 of 208,912 numbers differ \(0.954%\)"),
        ("diff", biases, r"diff: 2,\d+ of 2\d\d,\d+ numbers differ"),
        ("mask", masked, r"mask: 7,716 of 150,528 weights are left out \(5.13%\)"),
    ],
)
def test_a_pair_is_the_checkpoint_that_was_tuned(
    base: Base, tmp_path: Path, tune: Tune, kind: str, change: Any, told: str
) -> None:
    directory = tune(change)
    task = read(Source(str(directory), kind), base)
    assert task.config.kind == kind
    assert bool(task.config.head) == (change is not sparse)
    plain = PlainPass(base.config, whole(tmp_path / "bert-sequence"), task.config, task.arrays)
    states = plain.states(IDS)
    expected, logits = outputs(directory)
    assert states == pytest.approx(expected, abs=1e-6)
    assert plain.logits(states) == pytest.approx(logits, abs=1e-6)
    assert re.match(told, task.told), task.told


def test_masks_are_bits_and_sparse_differences_have_16_bit_indices(base: Base, tune: Tune) -> None:
    mask = read(Source(str(tune(masked)), "mask"), base).arrays
    kept = mask["layer.1.attention.query/mask/kept"]
    assert (kept.form, len(kept.data)) == ("bits", 96 * 96 // 8)


def test_a_sparse_difference_has_16_bit_indices(base: Base, tune: Tune) -> None:
    arrays = read(Source(str(tune(sparse)), "diff"), base).arrays
    assert arrays["layer.1.attention.query/sparse/indices"].form == "u16"
    assert arrays["embeddings.word/sparse/indices"].form == "u16"


def add_to_query(tensors: Tensors) -> None:
    tensors[f"{QUERY}.weight"][:2] += 0.25


def train_all(tensors: Tensors) -> None:
    for tensor in tensors.values():
        tensor += np.float32(0.01)


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        (
            "bitfit",
            add_to_query,
            "layer.1.attention.query.weight (192 of 9,216 numbers, by up to 0.25",
        ),
        (
            "mask",
            add_to_query,
            "layer.1.attention.query.weight (192 of 9,216 numbers, by up to 0.25",
        ),
        ("mask", biases, "embeddings.norm.weight (96 of 96 numbers"),
        ("diff", train_all, "embeddings.word (43,296 of 43,296 numbers, by up to 0.01"),
    ],
)
def test_another_kind_is_refused_and_told_how_far_it_is(
    base: Base, tune: Tune, kind: str, change: Any, told: str
) -> None:
    with pytest.raises(InvalidTask) as caught:
        read(Source(str(tune(change)), kind), base)
    assert told in caught.value.message
    assert "differs from tiny@v1" in caught.value.message


def test_an_equal_checkpoint_is_no_task(base: Base, tune: Tune) -> None:
    with pytest.raises(InvalidTask, match="is equal to tiny@v1"):
        read(Source(str(tune(lambda tensors: None)), "diff"), base)


def test_another_model_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(InvalidTask, match="has layers = 3, and tiny@v1 has 2"):
        read(Source(str(tiny_models.write("bert-cls-normalized", tmp_path)), "diff"), base)
    with pytest.raises(InvalidTask, match="has family = 'roberta'"):
        read(Source(str(tiny_models.write("roberta-sequence", tmp_path)), "diff"), base)


def test_an_unknown_kind_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="kind is 'lora', not one of bitfit, diff, mask"):
        read(Source(str(tmp_path / "bert-sequence"), "lora"), base)


def test_adding_a_pair_tells_how_far_it_is(database: str, base: Base, tune: Tune) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        added = add(connection, Source(str(tune(biases)), "bitfit"), model="tiny", name="legal")
    assert "legal@v1 added: " in str(added)
    assert "all of them in biases and norms" in str(added)

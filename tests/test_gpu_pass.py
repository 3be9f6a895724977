"""Whole passes over the GPU's kernels: vectors as NumPy's, and no memory asked for once steady."""

from typing import Any

import numpy as np
import pytest
from emulated_device import EmulatedOperators, emulated

from bench import gpu
from bench.gpu_peers import checkpoint_name
from pageformer.udfs import encoder
from pageformer.udfs.operators import Operators

TINY = gpu.Shape("tiny", 2, 64, 2, 96)


def encoded(operators: Operators, lengths: list[int], model: Any = None) -> Any:
    random = np.random.default_rng(1)
    ids = [random.integers(0, 500, length).tolist() for length in lengths]
    model = model or gpu.model(TINY, operators)
    return operators.to_host(encoder.encode(model, encoder.join(ids), lambda: None))


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "VOCABULARY", 500)


def element(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    return pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16").bfloat16


@pytest.mark.parametrize(
    ("name", "least"), [("float32", 1 - 1e-6), ("float16", 0.9995), ("bfloat16", 0.9995)]
)
def test_vectors_are_those_of_numpy(name: str, least: float) -> None:
    lengths = [3, 17, 1, 40]
    got = encoded(emulated(element=element(name)), lengths)
    expected = encoded(Operators(), lengths)
    norms = np.linalg.norm(got, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((got * expected).sum(1) / norms).min() >= least


def test_a_steady_pass_allocates_nothing() -> None:
    operators: EmulatedOperators = emulated()
    model = gpu.model(TINY, operators)
    first = encoded(operators, [20, 20], model)
    encoded(operators, [20, 20], model)
    before = operators.arena.allocations
    for lengths in ([5, 9], [1], [20, 20]):
        again = encoded(operators, lengths, model)
    assert operators.arena.allocations == before
    assert np.array_equal(again, first)
    plan = operators.arena.plan
    assert plan.bound <= plan.footprint <= 1.1 * plan.bound
    assert "by plan" in gpu.footprint(plan)


def test_the_bench_says_that_there_is_no_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "page", lambda device: pytest.skip("this machine has a GPU"))
    assert gpu.main() == 1
    assert capsys.readouterr().out.startswith("nothing was measured: backend 'gpu'")


def test_weights_of_the_bench_have_names_that_checkpoints_know() -> None:
    names = {checkpoint_name(name) for name in gpu.weights(TINY)}
    assert "encoder.layer.1.attention.output.LayerNorm.bias" in names
    assert "embeddings.token_type_embeddings.weight" in names
    assert "embeddings.LayerNorm.weight" in names

"""Compiled layers alone against the composition of NumPy's operators."""

from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import tiny_models
from backends_present import reason_missing
from cpu_models import layout_of

from pageformer.loader.checkpoint import read
from pageformer.udfs.composed import ComposedLayers
from pageformer.udfs.layout import Layout
from pageformer.udfs.model import assemble
from pageformer.udfs.operators import Operators

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend import compiled_layers

LENGTHS = [1, 2, 5, 12, 13, 31, 64, 7]
SEVERAL_GROUPS = [200, 100, 300, 1, 40]


@pytest.fixture(scope="module", params=[*tiny_models.ENCODERS, "bert-mean", "roberta-mean"])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_of(read(tiny_models.write(request.param, tmp_path_factory.mktemp("model"))))


@pytest.fixture(params=["amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2", "portable"])
def variant(request: pytest.FixtureRequest) -> str:
    if request.param not in kernels.variants():
        pytest.skip(f"this machine has no {request.param}")
    return str(request.param)


@pytest.fixture
def cores() -> Any:
    """Let jobs have more threads than this machine has cores."""
    slots = bytearray(4096)
    kernels.share(slots, 8)
    yield
    kernels.share(slots, 1)


def rows(layout: Layout, lengths: list[int]) -> Any:
    draw = np.random.default_rng(len(lengths))
    return draw.standard_normal((sum(lengths), layout.config.hidden), np.float32)


def compute(layout: Layout, variant: str, given: Any, lengths: list[int]) -> Any:
    made = compiled_layers.compile_layers(layout, variant)
    states = compiled_layers.CompiledLayers(made).states(given, lengths, lambda: None)
    return np.frombuffer(states, np.float32).reshape(given.shape)


@pytest.mark.parametrize("lengths", [LENGTHS, SEVERAL_GROUPS])
def test_compiled_layers_are_the_composition(
    layout: Layout, variant: str, lengths: list[int], cores: None
) -> None:
    given = rows(layout, lengths)
    composed = ComposedLayers(assemble(layout, Operators()))
    expected = np.frombuffer(composed.states(given.tobytes(), lengths, lambda: None), np.float32)
    got = compute(layout, variant, given, lengths)
    np.testing.assert_allclose(got, expected.reshape(given.shape), atol=2e-5)


def test_bits_of_a_sequence_do_not_depend_on_its_batch(
    layout: Layout, variant: str, cores: None
) -> None:
    given = rows(layout, LENGTHS)
    ends = list(accumulate(LENGTHS))
    alone = [
        compute(layout, variant, given[end - length : end], [length])
        for length, end in zip(LENGTHS, ends, strict=True)
    ]
    together = compute(layout, variant, given, LENGTHS)
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_what_is_not_a_number_is_told_by_both_paths(layout: Layout) -> None:
    given = rows(layout, [2, 1])
    given[0] = np.nan
    made = compiled_layers.layers(layout)
    composed = ComposedLayers(assemble(layout, Operators()))
    for layers in (made, composed):
        told = layers.texts(given.tobytes(), [2, 1], lambda: None)
        assert [text.count("nan") > 0 for text in told] == [True, True, False]
        assert "null" not in "".join(told)


def test_lengths_that_do_not_go_with_the_rows_are_refused(layout: Layout) -> None:
    made = compiled_layers.compile_layers(layout, kernels.variants()[0])
    given = rows(layout, [3])
    for lengths in ([], [2], [4], [3, 1], [0, 3], [-1, 4]):
        with pytest.raises(ValueError, match="lengths do not go with the rows"):
            kernels.Job(made, 0, True).add_rows(given, lengths)


def test_layers_take_rows_and_encoders_take_ids(layout: Layout) -> None:
    job = kernels.Job(compiled_layers.compile_layers(layout, kernels.variants()[0]), 0, True)
    with pytest.raises(TypeError, match="an encoder with embeddings"):
        job.add([1, 2])

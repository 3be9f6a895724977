"""The compiled pass against the composition of NumPy's operators, and what its bits depend on."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from backends_present import reason_missing
from cpu_models import layout_of

from pageformer.loader.checkpoint import read
from pageformer.udfs import encoder
from pageformer.udfs.distances import relative_buckets
from pageformer.udfs.layout import Layout
from pageformer.udfs.model import assemble
from pageformer.udfs.operators import Operators

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend import compiled

LENGTHS = (1, 2, 5, 12, 13, 0, 31, 64, 7)
FAMILIES = ("bert-mean", "bert-cls-normalized", "distilbert-mean", "roberta-mean", "mpnet-mean")


@pytest.fixture(scope="module", params=FAMILIES)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return layout_of(read(tiny_models.write(request.param, tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module")
def minilm_layout(minilm_dir: Path) -> Layout:
    return layout_of(read(minilm_dir))


def sequences(layout: Layout, lengths: Any = LENGTHS) -> list[list[int]]:
    draw = random.Random(1).randrange
    longest, words = layout.config.max_length, layout.config.vocabulary
    return [[draw(words) for _ in range(min(n, longest))] for n in lengths]


def compute(
    layout: Layout,
    variant: str,
    sequences: list[list[int]],
    threads: int = 1,
    states: bool = False,
    form: str = "float32",
) -> Any:
    made = compiled.compile_encoder(layout, variant, form)
    job = kernels.Job(made, threads, states)
    for ids in sequences:
        job.add(ids)
    assert job.run()
    return np.frombuffer(job.answer or b"", np.float32).reshape(-1, layout.config.hidden)


def reference(layout: Layout, sequences: list[list[int]]) -> Any:
    model = assemble(layout, Operators())
    batch = encoder.join(sequences)
    states = encoder.token_states(model, batch, lambda: None)
    return states, model.operators.pool(states, batch.offsets, model.config.pooling)


@pytest.fixture(params=["amx", "avx512_bf16", "avx512_vnni", "avx512", "avx2", "portable"])
def variant(request: pytest.FixtureRequest) -> str:
    if request.param not in kernels.variants():
        pytest.skip(f"this machine has no {request.param}")
    return str(request.param)


def test_the_compiled_pass_is_the_composition(layout: Layout, variant: str) -> None:
    given = sequences(layout)
    states, pooled = reference(layout, given)
    np.testing.assert_allclose(compute(layout, variant, given), pooled, atol=5e-6)
    np.testing.assert_allclose(compute(layout, variant, given, states=True), states, atol=2e-5)


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8"])
def test_bits_do_not_depend_on_batch_or_threads(
    minilm_layout: Layout, variant: str, cores: None, form: str
) -> None:
    given = sequences(minilm_layout, (3, 12, 13, 25, 100, 256, 1, 40, 180, 12))
    alone = np.concatenate([compute(minilm_layout, variant, [ids], form=form) for ids in given])
    for threads in (1, 2, 3, 5):
        together = compute(minilm_layout, variant, given, threads, form=form)
        np.testing.assert_array_equal(together, alone)
        one = compute(minilm_layout, variant, given[3:4], threads, form=form)
        np.testing.assert_array_equal(one, alone[3:4])


@pytest.mark.parametrize(("form", "least"), [("bfloat16", 0.9999), ("int8", 0.99)])
def test_narrow_products_point_where_float32_does(
    minilm_layout: Layout, variant: str, form: str, least: float
) -> None:
    given = sequences(minilm_layout, (1, 3, 12, 13, 25, 33, 100, 256))
    wide = compute(minilm_layout, variant, given)
    narrow = compute(minilm_layout, variant, given, form=form)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(narrow, axis=1)
    assert ((wide * narrow).sum(axis=1) / lengths).min() > least


@pytest.mark.parametrize("form", ["bfloat16", "int8"])
def test_every_variant_rounds_weights_and_states_alike(minilm_layout: Layout, form: str) -> None:
    given = sequences(minilm_layout, (12, 40))
    first, *others = (compute(minilm_layout, v, given, form=form) for v in kernels.variants())
    for other in others:
        np.testing.assert_allclose(other, first, atol=0.02 if form == "bfloat16" else 0.1)


@pytest.fixture
def cores() -> Any:
    """Let jobs have more threads than this machine has cores."""
    slots = bytearray(4096)
    kernels.share(slots, 8)
    yield
    kernels.share(slots, 1)


def test_a_job_that_was_stopped_goes_on_where_it_was(minilm_layout: Layout, cores: None) -> None:
    given = sequences(minilm_layout, [60] * 20)
    whole = compute(minilm_layout, kernels.variants()[0], given)
    made = compiled.compile_encoder(minilm_layout, kernels.variants()[0])
    for threads in (1, 3):
        job = kernels.Job(made, threads)
        try:
            kernels.interrupt(True)
            for ids in given:
                job.add(ids)
            assert not job.run()
            assert not job.run()
            assert job.answer is None
        finally:
            kernels.interrupt(False)
        assert job.run()
        got = np.frombuffer(job.answer or b"", np.float32).reshape(whole.shape)
        np.testing.assert_array_equal(got, whole)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="this machine has one core")
def test_threads_are_kept_off_the_core_of_their_caller(minilm_layout: Layout, cores: None) -> None:
    mine = os.sched_getaffinity(0)
    compute(minilm_layout, kernels.variants()[0], sequences(minilm_layout, [60]), 2)
    told = [os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")]
    assert any(own < mine and len(own) == len(mine) - 1 for own in told)


def test_a_job_may_be_given_up(minilm_layout: Layout, cores: None) -> None:
    made = compiled.compile_encoder(minilm_layout, kernels.variants()[0])
    job = kernels.Job(made, 4)
    for ids in sequences(minilm_layout, [100] * 12):
        job.add(ids)
    job.close()
    with pytest.raises(RuntimeError, match="closed"):
        job.run()


def test_writing_many_vectors_is_given_up(minilm_layout: Layout) -> None:
    encoder = compiled.encoder(minilm_layout, "float32", compiled.not_shared)
    sequences = [[101, 7592 + i, 102] for i in range(2 * compiled.TOLD_AT_ONCE)]
    whole = encoder.vectors(sequences, 8, True, lambda: None)
    assert whole == [encoder.vectors([ids], 8, True, lambda: None)[0] for ids in sequences]

    def cancel() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.vectors(sequences, 8, True, cancel)


def test_tokens_that_the_model_does_not_have_are_refused(minilm_layout: Layout) -> None:
    job = kernels.Job(compiled.compile_encoder(minilm_layout, kernels.variants()[0]))
    with pytest.raises(IndexError, match="token 30522 is not in the vocabulary"):
        job.add([30522])
    with pytest.raises(ValueError, match="more than the model takes"):
        job.add([0] * (minilm_layout.config.max_length + 1))


def test_relative_buckets_are_those_of_the_forward_pass() -> None:
    distances = np.arange(-3000, 3001)
    for buckets in (8, 32, 64):
        expected = relative_buckets(distances, buckets)
        got = [compiled.relative_bucket(int(j), buckets) for j in distances]
        np.testing.assert_array_equal(got, expected)

"""Layers of a batch with tasks in one job, against the layers composed of single operators."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models
import tiny_tasks
from backends_present import cpu_variant, reason_missing
from cpu_models import layout_of
from task_passes import LENGTHS, encoded, sequences, task

from pageformer.loader.checkpoint import read
from pageformer.udfs import encoder
from pageformer.udfs.composed import encode
from pageformer.udfs.model import Model, assemble
from pageformer.udfs.tasks.task_run import tasked

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend.compiled_layers import compile_layers

FAMILIES = ("bert-mean", "roberta-mean")
COMPOSED = ("prefix",)  # what the job does not compute


@pytest.fixture(scope="module", params=FAMILIES)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return layout_of(read(tiny_models.write(request.param, tmp_path_factory.mktemp("model"))))


@pytest.fixture(scope="module", params=("avx512", "avx2", "portable"))
def model(request: pytest.FixtureRequest, layout: Any) -> Model:
    return assemble(layout, cpu_variant(request.param))


@pytest.fixture(params=(1, 3))
def cores(request: pytest.FixtureRequest) -> Any:
    """Let a job have more threads than this machine has cores."""
    kernels.share(bytearray(4096), request.param)
    yield
    kernels.share(bytearray(4096), 1)


class Counted:
    """Count the batches whose layers ran in one job."""

    def __init__(self, model: Model) -> None:
        assert model.layers is not None
        self.layers, self.knows, self.runs = model.layers, model.layers.knows, 0

    def states(self, *given: Any) -> Any:
        self.runs += 1
        return self.layers.states(*given)


def in_one_job(model: Model, ids: list[list[int]], tasks: Any) -> tuple[Any, int]:
    counted = Counted(model)
    return encoded(replace(model, layers=counted), ids, tasks), counted.runs


def composed(model: Model, ids: list[list[int]], tasks: Any) -> Any:
    return encoded(replace(model, layers=None), ids, tasks)


@pytest.mark.parametrize("kind", tiny_tasks.KINDS)
def test_bits_of_each_kind_are_those_of_composed_layers(model: Model, kind: str) -> None:
    tasks = [task(model, kind), None] * (len(LENGTHS) // 2)
    ids = sequences(model)
    got, runs = in_one_job(model, ids, tasks)
    assert bool(runs) == (kind not in COMPOSED)
    assert got.tobytes() == composed(model, ids, tasks).tobytes()


def test_bits_of_a_mixed_batch_are_those_of_composed_layers(model: Model, cores: None) -> None:
    kinds = [kind for kind in tiny_tasks.KINDS if kind not in COMPOSED]
    tasks = [None, *(task(model, kind) for kind in kinds)] * 5
    random.Random(5).shuffle(tasks)
    ids = sequences(model, random.Random(6).choices(LENGTHS, k=len(tasks)))
    got, runs = in_one_job(model, ids, tasks)
    assert runs
    assert got.tobytes() == composed(model, ids, tasks).tobytes()


def test_short_sequences_by_the_hundred_go_together(model: Model) -> None:
    own = [task(model, "mask")] * 450 + [None] * 450
    counted = Counted(model)
    edited, batch = tasked(
        replace(model, layers=counted), [[5 + i % 7] for i in range(900)], None, own
    )
    got = encoder.encode(edited, batch, lambda: None)
    assert counted.runs == 1
    assert np.array_equal(got[:7], got[441:448])
    assert not np.array_equal(got[0], got[450])


def test_a_batch_with_tasks_that_was_stopped_goes_on_where_it_was(
    model: Model, cores: None
) -> None:
    tasks = [task(model, "low rank"), task(model, "sparse")]
    ids = sequences(model, (40, 50))
    heard = []

    def pulse() -> None:
        heard.append(len(heard))
        kernels.interrupt(len(heard) < 3)

    whole = encoded(model, ids, tasks)
    kernels.interrupt(True)
    try:
        got = encode(model, ids, pulse, 0, tasks)
    finally:
        kernels.interrupt(False)
    assert heard == [0, 1, 2]
    assert got.tobytes() == whole.tobytes()


def test_edits_are_checked_before_anything_runs(layout: Any) -> None:
    job = kernels.Job(compile_layers(layout, kernels.variants()[0]), 0, True)
    rows = np.zeros((2, layout.config.hidden), np.float32)
    with pytest.raises(ValueError, match="no site 8 in layer 0"):
        job.add_rows(rows, [2], [(0, 8, [])])


def test_rows_of_tasks_do_not_overlap(layout: Any) -> None:
    made = kernels.EndEdits(layout.config.hidden, None, None)
    job = kernels.Job(compile_layers(layout, kernels.variants()[0]), 0, True)
    rows = np.zeros((4, layout.config.hidden), np.float32)
    with pytest.raises(ValueError, match="do not overlap"):
        job.add_rows(rows, [4], [(0, 6, [(0, 3, made), (2, 4, made)])])

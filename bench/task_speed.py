"""How fast batches of many tasks run, beside a model for each task.

Each cell is kept in build/ as soon as it is measured, so that the next run goes on with the others.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench import task_models
from bench.task_models import KINDS, by_turns, made_tasks, no_share, nothing, progress, queries
from pageformer.cpu_backend import _kernels as kernels
from pageformer.udfs import backends, composed
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import LocalEncoder
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task_run import Task

KEPT = Path(__file__).parents[1] / "build" / "task-cells.json"
HIDDEN, LAYERS, WORDS = 384, 6, 2048
SIZES = {"MiniLM": (384, 6), "DistilBERT": (768, 6), "BERT-base": (768, 12)}
TASKS = (32, 128, 8, 1, 64, 16, 4, 2)  # measured in this order
SIGMAS = (1, 2, 4, 8)
COPIES = 32  # full models, of 44 to 340 MB: far more than caches hold
QUERIES, FEWER = 1024, 128  # all at once; and where each is computed with few others
MIXED = 32  # queries at a time, where sizes are compared
Ids = list[list[int]]
Cell = dict[str, Any]
CONFIG = task_models.bert(HIDDEN, LAYERS, WORDS)


class Contest(NamedTuple):
    """Hold a model with its tasks, and full models to compare it with."""

    model: Model
    tasks: list[Task]
    own: Sequence[LocalEncoder]


# -- by numbers of tasks --------------------------------------------------------------------------


def throughput() -> list[str]:
    """Compare mixed batches with one task of each kind, and with a model for each task."""
    for number in TASKS:
        for sigma in SIGMAS:
            kept(f"{number} tasks, sigma {sigma}", partial(cell, number, sigma))
        kept(f"{number} tasks, all", partial(all_at_once, number, 4))
    cells = saved().values()
    order = [(number, sigma) for number in sorted(TASKS) for sigma in SIGMAS]
    mixed = {(c["tasks"], c["sigma"]): c for c in cells if c.keys() >= {"tasks", "mixed"}}
    lines = [
        "| tasks | sigma | mixed, queries/s | of one task a kind | x one after another | "
        "x in parallel |",
        "|---" * 6 + "|",
    ]
    for c in (mixed[at] for at in order):
        lines.append(
            f"| {c['tasks']} | {c['sigma']} | {c['mixed']:.0f} | {c['mixed'] / c['few']:.0%} | "
            f"{c['mixed'] / c['one']:.2f} | {c['mixed'] / c['parallel']:.2f} |"
        )
    lines += [
        "",
        "| tasks | all at once, queries/s | x one model after another |",
        "|---" * 3 + "|",
    ]
    for c in sorted((c for c in cells if "all" in c), key=lambda c: int(c["tasks"])):
        lines.append(f"| {c['tasks']} | {c['all']:.0f} | {c['all'] / c['by model']:.2f} |")
    return [
        *lines,
        f"\nAn encoder of {LAYERS} layers of {HIDDEN}, float32, lengths N(32, sigma). "
        "Mixed: a query of each task at a time, in one batch. One after another: each of these "
        f"alone, by the compiled pass, in a full model of its own (up to {COPIES}); parallel: by a "
        f"process on each core. {FEWER} queries, medians of {task_models.ROUNDS} rounds by turns. "
        f"All at once: {QUERIES} queries, sigma 4, as they are planned, against each model's "
        "queries in batches.",
    ]


def cell(number: int, sigma: int) -> Cell:
    """Measure one number of tasks with one spread of lengths, in queries a second."""
    model, tasks = base()
    ids = queries(np.random.default_rng(sigma), sigma, FEWER, WORDS)
    few, own = min(number, len(KINDS)), models()[: min(number, COPIES)]
    runs = {
        "mixed": partial(one_each, model, ids, tasks[:number], number),
        "few": partial(one_each, model, ids, tasks[:few], number),
        "one": partial(alone, own, ids),
    }
    found = {"tasks": number, "sigma": sigma, **rates(ids, runs)}
    return {**found, "parallel": in_parallel(own, ids)}


def all_at_once(number: int, sigma: int) -> Cell:
    """Measure many queries of so many tasks, in queries a second."""
    model, tasks = base()
    ids = queries(np.random.default_rng(sigma), sigma, QUERIES, WORDS)
    own = models()[: min(number, COPIES)]
    runs = {
        "all": partial(encode, model, ids, tasks[:number]),
        "by model": partial(by_model, own, ids, number),
    }
    return {"tasks": number, **rates(ids, runs, 1)}


# -- by sizes -------------------------------------------------------------------------------------


def sizes() -> list[str]:
    """Compare mixed batches with one query after another, and both with what cores multiply."""
    for name, size in SIZES.items():
        contest = cache(partial(contest_of, task_models.bert(*size, WORDS)))
        for sigma in SIGMAS:
            kept(f"{name}, sigma {sigma}", lambda s=sigma, of=contest: sized(of(), s))
    lines = [
        "| size | sigma | mixed, queries/s | of one task a kind | one after another | times | "
        "share of peak, mixed | and one after another |",
        "|---" * 8 + "|",
    ]
    for name in SIZES:
        for sigma in SIGMAS:
            c = saved()[f"{name}, sigma {sigma}"]
            lines.append(
                f"| {name} | {sigma} | {c['mixed']:.1f} | {c['mixed'] / c['few']:.0%} | "
                f"{c['one']:.1f} | {c['mixed'] / c['one']:.2f} | {c['mixed'] * c['of peak']:.0%} | "
                f"{c['one'] * c['of peak']:.0%} |"
            )
    return [
        *lines,
        f"\n{MIXED} tasks, a query of each at a time, against each query alone in full models, "
        f"{COPIES} of them by turns; float32, {FEWER // 2} queries, medians of "
        f"{task_models.ROUNDS} rounds by turns. Peak: the multiplications and additions that "
        "registers alone take, on all cores; counted are those of shared weights. Where one after "
        "another takes a share s of it, nothing is more than 1 / s times as fast.",
    ]


def contest_of(config: Config) -> Contest:
    """Make what is compared at a size."""
    progress("making models")
    model = backends.model("cpu", task_models.layout(config))
    return Contest(model, made_tasks(model, MIXED), full_models(config, COPIES))


def sized(contest: Contest, sigma: int) -> Cell:
    """Measure a size with one spread of lengths, in queries a second."""
    model, tasks, own = contest
    ids = queries(np.random.default_rng(sigma), sigma, FEWER // 2, WORDS)
    runs = {
        "mixed": partial(one_each, model, ids, tasks, MIXED),
        "few": partial(one_each, model, ids, tasks[: len(KINDS)], MIXED),
        "one": partial(alone, own, ids),
    }
    peak = kernels.peak(kernels.variants()[0]) * 1e9 * (os.cpu_count() or 1)
    flops = 2 * 12 * model.config.layers * model.config.hidden**2 * np.mean([*map(len, ids)])
    return {**rates(ids, runs), "of peak": float(flops / peak)}


# -- what is timed --------------------------------------------------------------------------------


def rates(
    ids: Ids, runs: dict[str, Callable[[], object]], rounds: int = task_models.ROUNDS
) -> dict[str, float]:
    """Time runs by turns, in queries a second."""
    seconds = by_turns(*runs.values(), rounds=rounds)
    return {name: len(ids) / taken for name, taken in zip(runs, seconds, strict=True)}


def encode(model: Model, ids: Ids, tasks: Sequence[Task]) -> None:
    """Encode queries of the tasks by turns."""
    of = [tasks[i % len(tasks)] for i in range(len(ids))]
    composed.ComposedEncoder(model, of).vectors(ids, None, None, nothing)


def one_each(model: Model, ids: Ids, tasks: Sequence[Task], together: int) -> None:
    """Encode so many queries at a time, of the tasks by turns."""
    for i in range(0, len(ids), together):
        encode(model, ids[i : i + together], tasks)


def alone(models: Sequence[LocalEncoder], ids: Ids) -> None:
    """Encode each query by itself, in the models by turns."""
    for i, own in enumerate(ids):
        models[i % len(models)].vectors([own], None, None, nothing)


def by_model(models: Sequence[LocalEncoder], ids: Ids, number: int) -> None:
    """Encode all queries of each task in its own model."""
    for i in range(number):
        models[i % len(models)].vectors(ids[i::number], None, None, nothing)


def in_parallel(models: Sequence[LocalEncoder], ids: Ids) -> float:
    """Encode each query by itself, on each core a share of the models."""
    cores = os.cpu_count() or 1
    fork = multiprocessing.get_context("fork")
    begins, ends = fork.Barrier(cores + 1), fork.Barrier(cores + 1)

    def work(core: int) -> None:
        share = [model.alone() for model in models[core::cores] or models]
        alone(share, ids[:2])
        begins.wait()
        alone(share, ids[core::cores])
        ends.wait()

    workers = [fork.Process(target=work, args=(core,)) for core in range(cores)]
    for worker in workers:
        worker.start()
    begins.wait()
    begin = time.perf_counter()
    ends.wait()
    found = len(ids) / (time.perf_counter() - begin)
    for worker in workers:
        worker.join()
    return found


# -- what is made once, and kept ------------------------------------------------------------------


@cache
def base() -> tuple[Model, list[Task]]:
    """Make the shared model and its tasks, and run each once."""
    progress("making tasks")
    model = backends.model("cpu", task_models.layout(CONFIG))
    tasks = made_tasks(model, max(TASKS))
    encode(model, [[5] * 32] * len(tasks), tasks)
    return model, tasks


@cache
def models() -> list[LocalEncoder]:
    """Make a full model for each task, up to COPIES."""
    progress("making full models")
    return full_models(CONFIG, COPIES)


def full_models(config: Config, number: int) -> list[LocalEncoder]:
    """Make full models, and run each once."""
    layouts = (task_models.layout(config, seed) for seed in range(number))
    made = [backends.encoder("cpu", layout, "float32", no_share) for layout in layouts]
    alone(made, [[5] * 32] * len(made))
    return made


def saved() -> dict[str, Cell]:
    """Read the cells that were measured."""
    found: dict[str, Cell] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return found


def kept(name: str, measure: Callable[[], Cell]) -> Cell:
    """Return a cell, measured now unless it was before."""
    cells = saved()
    if name not in cells:
        progress(name)
        cells[name] = measure()
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(cells, indent=1))
    return cells[name]

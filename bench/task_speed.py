"""How fast batches of many tasks run, beside a model for each task, and beside PEFT.

An encoder of MiniLM's size. Each cell is kept in build/ as soon as it is measured, so that the next
run goes on with the others.
"""

import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import peft_peer, task_models
from bench.peer import PYTHON
from bench.task_models import KINDS, made_tasks, no_share, nothing, progress, queries
from pageformer.udfs import backends, composed
from pageformer.udfs.encoding import LocalEncoder
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task_array import floats
from pageformer.udfs.tasks.task_run import Task, read

KEPT = Path(__file__).parents[1] / "build" / "task-cells.json"
PEER = Path(os.environ.get("PEFT_PYTHON", PYTHON))  # an interpreter that has torch and peft
HIDDEN, LAYERS, WORDS = 384, 6, 2048
TASKS = (32, 128, 8, 1, 64, 16, 4, 2)  # measured in this order
SIGMAS = (1, 2, 4, 8)
COPIES = 32  # full models, of 44 MB: far more than caches hold
QUERIES, FEWER = 1024, 256  # all at once; and where each is computed with few others
Ids = list[list[int]]
Cell = dict[str, Any]
CONFIG = task_models.bert(HIDDEN, LAYERS, WORDS)


def throughput() -> list[str]:
    """Compare mixed batches with one task of each kind, and with a model for each task."""
    for number in TASKS:
        for sigma in SIGMAS:
            kept(f"{number} tasks, sigma {sigma}", lambda n=number, s=sigma: cell(n, s))
    cells = [c for c in saved().values() if "mixed" in c]
    lines = [
        "| tasks | sigma | mixed, queries/s | of one task a kind | x one after another | "
        "x in parallel | all at once, queries/s | x one model after another |",
        "|---" * 8 + "|",
    ]
    for c in sorted(cells, key=lambda c: (c["tasks"], c["sigma"])):
        lines.append(
            f"| {c['tasks']} | {c['sigma']} | {c['mixed']:.0f} | {c['mixed'] / c['few']:.0%} | "
            f"{c['mixed'] / c['one']:.2f} | {c['mixed'] / c['parallel']:.2f} | {c['all']:.0f} | "
            f"{c['all'] / c['by model']:.2f} |"
        )
    return [
        *lines,
        f"\nAn encoder of {LAYERS} layers of {HIDDEN}, float32. Mixed: a query of each task at a "
        "time, in one batch. One after another: each of these alone, by the compiled pass, in a "
        f"full model of its own (up to {COPIES} of them); in parallel: by a process on each core. "
        f"All at once: {QUERIES} queries as they are planned, against each model's queries in "
        "batches.",
    ]


def cell(number: int, sigma: int) -> Cell:
    """Measure one number of tasks with one spread of lengths, in queries a second."""
    model, tasks = base()
    ids = queries(np.random.default_rng(sigma), sigma, QUERIES, WORDS)
    fewer, few = ids[:FEWER], min(number, len(KINDS))
    own = models()[: min(number, COPIES)]
    return {
        "tasks": number,
        "sigma": sigma,
        "mixed": rate(fewer, lambda: one_each(model, fewer, tasks[:number], number)),
        "few": rate(fewer, lambda: one_each(model, fewer, tasks[:few], number)),
        "one": rate(fewer, lambda: alone(own, fewer)),
        "parallel": in_parallel(own, fewer),
        "all": rate(ids, lambda: encode(model, ids, tasks[:number])),
        "by model": rate(ids, lambda: by_model(own, ids, number)),
    }


def rate(ids: Ids, run: Callable[[], object]) -> float:
    """Time one run."""
    begin = time.perf_counter()
    run()
    return len(ids) / (time.perf_counter() - begin)


def encode(model: Model, ids: Ids, tasks: Sequence[Task]) -> None:
    """Encode queries of the tasks by turns."""
    of = [tasks[i % len(tasks)] for i in range(len(ids))]
    composed.encode(model, ids, nothing, 0, of)


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
    found = rate(ids, ends.wait)
    for worker in workers:
        worker.join()
    return found


# -- PEFT ---------------------------------------------------------------------------------------


def peft() -> list[str]:
    """Compare LoRA of many tasks with PEFT's own mixed batches, and PyTorch one after another."""
    lines = ["| tasks | ours, queries/s | PEFT, queries/s | x PEFT | PyTorch, one after another |"]
    lines.append("|---" * 5 + "|")
    versions = ""
    for number in peft_peer.TASKS:
        c = kept(f"{number} LoRA", lambda n=number: lora_cell(n))
        versions = c["versions"]
        lines.append(
            f"| {number} | {c['ours']:.0f} | {c['peft']:.0f} | {c['ours'] / c['peft']:.2f} | "
            f"{c['torch']:.0f} |"
        )
    return [
        *lines,
        f"\nLoRA of rank {peft_peer.RANK} at queries and values, sigma 4, {FEWER} queries. PEFT "
        f"({versions}) is given batches of {peft_peer.BATCH} queries, sorted by length, with "
        "`adapter_names`; PyTorch one query at a time in full models without LoRA, by turns.",
    ]


def lora_cell(number: int) -> Cell:
    """Measure LoRA of so many tasks by PEFT and by ours."""
    asked = {"hidden": HIDDEN, "layers": LAYERS, "words": WORDS, "tasks": number}
    ids = queries(np.random.default_rng(4), 4, FEWER, WORDS)
    text = json.dumps({**asked, "ids": ids})
    command = [str(PEER), peft_peer.__file__]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    model, _ = base()
    tasks = [lora(model, i) for i in range(number)]
    encode(model, ids, tasks)
    return {**json.loads(answer.stdout), "ours": rate(ids, lambda: encode(model, ids, tasks))}


def lora(model: Model, seed: int) -> Task:
    """Draw a LoRA at queries and values."""
    draw = np.random.default_rng(seed)
    shapes = {"down": (HIDDEN, peft_peer.RANK), "up": (peft_peer.RANK, HIDDEN)}
    arrays = {
        f"layer.{i}.attention.{site}/low_rank/{part}": floats(draw.standard_normal(shape) * 0.02)
        for i in range(LAYERS)
        for site in ("query", "value")
        for part, shape in shapes.items()
    }
    return read(model, task_models.TaskConfig("lora"), arrays)


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
    layouts = (task_models.layout(CONFIG, seed) for seed in range(COPIES))
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

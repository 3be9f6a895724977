"""How fast LoRA of many tasks runs, beside PEFT's own mixed batches, and PyTorch's full models."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path

import numpy as np

from bench import peft_peer, task_models
from bench.peer import PYTHON
from bench.task_models import queries
from bench.task_speed import HIDDEN, LAYERS, WORDS, Cell, base, encode, kept, rates
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task_array import floats
from pageformer.udfs.tasks.task_run import Task, read

PEER = Path(os.environ.get("PEFT_PYTHON", PYTHON))  # an interpreter that has torch and peft
QUERIES, SIGMA = 256, 4


def peft() -> list[str]:
    """Compare LoRA of many tasks with PEFT's own mixed batches, and PyTorch one after another."""
    lines = ["| tasks | ours, queries/s | PEFT, queries/s | x PEFT | PyTorch, one after another |"]
    lines.append("|---" * 5 + "|")
    versions = ""
    for number in peft_peer.TASKS:
        c = kept(f"{number} LoRA", partial(lora_cell, number))
        versions = c["versions"]
        lines.append(
            f"| {number} | {c['ours']:.0f} | {c['peft']:.0f} | {c['ours'] / c['peft']:.2f} | "
            f"{c['torch']:.0f} |"
        )
    return [
        *lines,
        f"\nLoRA of rank {peft_peer.RANK} at queries and values, sigma {SIGMA}, {QUERIES} queries. "
        f"PEFT ({versions}) is given batches of {peft_peer.BATCH} queries, sorted by length, with "
        "`adapter_names`; PyTorch one query at a time in full models without LoRA, by turns.",
    ]


def lora_cell(number: int) -> Cell:
    """Measure LoRA of so many tasks by PEFT and by ours."""
    asked = {"hidden": HIDDEN, "layers": LAYERS, "words": WORDS, "tasks": number}
    ids = queries(np.random.default_rng(SIGMA), SIGMA, QUERIES, WORDS)
    text = json.dumps({**asked, "ids": ids})
    command = [str(PEER), peft_peer.__file__]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    model, _ = base()
    tasks = [lora(model, i) for i in range(number)]
    ours = rates(ids, {"ours": lambda: encode(model, ids, tasks)})
    return {"lora": number, **json.loads(answer.stdout), **ours}


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

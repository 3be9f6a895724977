"""Tiny tasks over a tiny model: made, drawn for, and run in one pass."""

import random
from typing import Any

import tiny_tasks

from pageformer.loader.families.shapes import expected_shapes
from pageformer.udfs import composed
from pageformer.udfs.model import Model
from pageformer.udfs.tasks import task_run
from pageformer.udfs.tasks.task import check
from pageformer.udfs.tasks.task_run import Task

LENGTHS = (5, 1, 12, 13, 3, 31, 24, 7)


def task(model: Model, kind: str, seed: int = 1) -> Task:
    arrays = tiny_tasks.arrays_of(kind, model.config, seed)
    config = tiny_tasks.config_of(kind, model.config)
    check(config, expected_shapes(model.config), {n: a.shape for n, a in arrays.items()})
    return task_run.read(model, config, arrays)


def sequences(model: Model, lengths: Any = LENGTHS) -> list[list[int]]:
    draw = random.Random(1).randrange
    return [[draw(2, model.config.vocabulary) for _ in range(n)] for n in lengths]


def encoded(model: Model, ids: list[list[int]], tasks: Any = None) -> Any:
    return composed.encode(model, ids, lambda: None, 0, tasks)

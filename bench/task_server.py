"""What a user has of tasks: statements over a socket, one for each query or one for many.

On one server: MiniLM, tasks of four kinds over it, and full models that differ in all layers.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from safetensors.numpy import load_file, save_file

from bench import task_models
from bench.server import model_directory, server
from bench.task_models import KINDS, by_turns, progress
from pageformer.loader.load import load
from pageformer.loader.tasks import store
from pageformer.loader.tasks.base import Base

TASKS, MODELS, MORE = 32, 8, 32  # a connection keeps 8 models ready
SIGMAS = (1, 2, 4, 8)
QUERIES, FEWER = 256, 64  # fewer where each takes longest
ONE = "select pageformer.encode(%s, %s)"
OF_TASK = "select pageformer.encode(%s, 'minilm', task => %s)"
BATCH = "select pageformer.encode_batch(%s, 'minilm', tasks => %s)"
WAYS = (
    f"one statement a query, in {MODELS} full models by turns",
    f"one statement a query, in {MORE} full models by turns",
    f"one statement a query, with {TASKS} tasks by turns",
    f"one statement for {TASKS} queries, one of each task",
    f"one statement for {QUERIES} queries of {TASKS} tasks",
)


def statements() -> list[str]:
    """Compare one statement a query in full models with one for many queries of tasks."""
    with server() as running, running.connect() as connection:
        make_models(connection)
        make_tasks(connection)
        found = {sigma: measured(connection, sigma) for sigma in SIGMAS}
    head = " | ".join(f"sigma {sigma}, queries/s | times the first" for sigma in SIGMAS)
    lines = [f"| through SQL | {head} |", "|---" * (1 + 2 * len(SIGMAS)) + "|"]
    for i, way in enumerate(WAYS):
        cells = " | ".join(f"{found[s][i]:.0f} | {found[s][i] / found[s][0]:.2f}" for s in SIGMAS)
        lines.append(f"| {way} | {cells} |")
    return [
        *lines,
        f"\nAll-MiniLM-L6-v2, float32, lengths N(32, sigma), one connection over the socket, "
        f"{QUERIES} queries ({FEWER} where there are {MORE} models), medians of "
        f"{task_models.ROUNDS} rounds by turns. A connection keeps {MODELS} models ready; of "
        f"{MORE} each is made ready again when its turn comes.",
    ]


def measured(connection: psycopg.Connection, sigma: float) -> list[float]:
    """Ask in each way; queries a second."""
    progress(f"SQL, sigma {sigma}")
    texts = queries(sigma)
    runs = (
        partial(one_each, connection, ONE, texts, names("full", MODELS)),
        partial(one_each, connection, ONE, texts[:FEWER], names("full", MORE)),
        partial(one_each, connection, OF_TASK, texts, names("task", TASKS)),
        partial(together, connection, texts, TASKS),
        partial(together, connection, texts, QUERIES),
    )
    asked = (QUERIES, FEWER, QUERIES, QUERIES, QUERIES)
    return [n / taken for n, taken in zip(asked, by_turns(*runs), strict=True)]


def one_each(
    connection: psycopg.Connection, query: Any, texts: Sequence[str], of: Sequence[str]
) -> None:
    """Ask for each text by itself, of models or tasks by turns."""
    for i, text in enumerate(texts):
        connection.execute(query, [text, of[i % len(of)]]).fetchone()


def together(connection: psycopg.Connection, texts: Sequence[str], at_once: int) -> None:
    """Ask for so many texts in one statement, of tasks by turns."""
    of = names("task", TASKS)
    for i in range(0, len(texts), at_once):
        some = list(texts[i : i + at_once])
        connection.execute(BATCH, [some, [of[j % TASKS] for j in range(len(some))]]).fetchone()


def names(what: str, number: int) -> list[str]:
    """Name models or tasks."""
    return [f"{what}{i}" for i in range(number)]


# -- what is on the server ------------------------------------------------------------------------


def queries(sigma: float) -> list[str]:
    """Draw texts whose lengths in tokens are N(32, sigma), clipped to [1, 128], but 2 at least."""
    known = json.loads((model_directory() / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(word for word in known if word.isascii() and word.isalpha() and len(word) > 3)
    draw = np.random.default_rng(0)
    lengths = np.clip(np.rint(draw.normal(32, sigma, QUERIES)), 2, 128).astype(int)
    return [" ".join(draw.choice(words, n - 2)) for n in lengths]  # two tokens stand around them


def make_models(connection: psycopg.Connection) -> None:
    """Load models whose layers have other weights each."""
    for i, name in enumerate(names("full", MORE)):
        progress(f"loading {name}")
        with changed(i) as folder:
            load(connection, str(folder), name=name)


@contextmanager
def changed(seed: int) -> Iterator[Path]:
    """Write MiniLM with other weights in all layers, for as long as it is loaded."""
    draw = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="pageformer-bench-") as made:
        folder = Path(made) / "model"
        shutil.copytree(model_directory(), folder)
        tensors = load_file(folder / "model.safetensors")
        for name, tensor in tensors.items():
            if "encoder.layer" in name and tensor.ndim == 2:
                tensors[name] = tensor * (1 + 0.01 * draw.standard_normal(tensor.shape, np.float32))
        save_file(tensors, folder / "model.safetensors")
        yield folder


def make_tasks(connection: psycopg.Connection) -> None:
    """Store tasks of the four kinds by turns."""
    base = Base(connection, "minilm")
    for i, name in enumerate(names("task", TASKS)):
        progress(f"storing {name}")
        config, arrays = task_models.task(base.config, KINDS[i % len(KINDS)], i)
        asked = store.Request(base.id, name, None, True, "drawn")
        store.write(connection, asked, config.kind, config.to_json(), arrays)

"""Encoders of given sizes with random weights, and random tasks of the four kinds that PetS serves.

Adapters of width 64, masks of 95%, differences of 99.5% sparsity, biases and norms.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pageformer.loader.families.shapes import expected_shapes
from pageformer.udfs.config import Config
from pageformer.udfs.layout import BUNDLE, Layout, Place, TensorRow
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task import Bottleneck, TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray, bits, floats, whole
from pageformer.udfs.tasks.task_run import Task, read

SIDE = 128
KINDS = ("adapter", "mask", "diff", "bias")
ADAPTER_WIDTH, KEPT, CHANGED = 64, 0.95, 0.005
Arrays = dict[str, TaskArray]


def bert(hidden: int, layers: int, words: int = 30522) -> Config:
    """Describe a BERT of a size."""
    return Config(
        family="bert", hidden=hidden, layers=layers, heads=hidden // 64, intermediate=4 * hidden,
        activation="gelu", norm_eps=1e-12, vocabulary=words, positions=512, token_types=2,
        max_length=512,
    )  # fmt: skip


def layout(config: Config, seed: int = 0) -> Layout:
    """Make random weights, in blocks that stay in memory."""
    draw = np.random.default_rng(seed)
    pages: dict[bytes, memoryview] = {}

    def block(values: Any) -> bytes:
        name = len(pages).to_bytes(8, "big")
        pages[name] = memoryview(np.ascontiguousarray(values, np.float32).ravel())
        return name

    rows, vectors, offset = [], [], 0
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            mean = 1 if name.endswith("norm.weight") else 0
            vectors.append(draw.standard_normal(shape, np.float32) * 0.02 + mean)
            rows.append(TensorRow(name, shape, None, offset))
            offset += shape[0]
            continue
        high, wide = (-(-size // SIDE) for size in shape)
        grid = [[block(random_block(draw)) for _ in range(wide)] for _ in range(high)]
        rows.append(TensorRow(name, shape, grid, None))
    bundle = np.concatenate(vectors)
    tall = np.pad(bundle, (0, -len(bundle) % (SIDE * SIDE))).reshape(-1, SIDE * SIDE)
    rows.append(TensorRow(BUNDLE, (len(tall) * SIDE, SIDE), [[block(t)] for t in tall], None))
    places = {name: Place(name, 0, len(page)) for name, page in pages.items()}
    return Layout(config, SIDE, rows, places, pages)


def random_block(draw: np.random.Generator) -> Any:
    """Draw one block of a weight."""
    return draw.standard_normal(SIDE * SIDE, np.float32) * np.float32(0.02)


def linears(config: Config) -> Iterator[tuple[str, int, int]]:
    """Name the linear maps of all layers, with their widths."""
    h, wide = config.hidden, config.intermediate
    for i in range(config.layers):
        for part in ("query", "key", "value", "output"):
            yield f"layer.{i}.attention.{part}", h, h
        yield f"layer.{i}.feed_forward.up", h, wide
        yield f"layer.{i}.feed_forward.down", wide, h


def task(config: Config, kind: str, seed: int) -> tuple[TaskConfig, Arrays]:
    """Draw a task of a kind."""
    draw = np.random.default_rng(seed)
    parts = ("attention", "feed_forward")
    places = [f"layer.{i}.{part}" for i in range(config.layers) for part in parts]
    if kind == "adapter":
        arrays = {n: a for at in places for n, a in adapter(draw, at, config.hidden).items()}
        return TaskConfig(kind, {at: Bottleneck("gelu") for at in places}), arrays
    made: Arrays = {}
    for site, rows, cols in linears(config):
        if kind == "mask":
            made[f"{site}/mask/kept"] = bits(draw.random((rows, cols), np.float32) < KEPT)
        else:
            made[f"{site}/bias/difference"] = floats(draw.standard_normal(cols) * 0.01)
        if kind == "diff":
            made |= difference(draw, site, rows, cols)
    for at in ("embeddings", *places) if kind == "bias" else ():
        made[f"{at}.norm/norm/weight"] = floats(1 + draw.standard_normal(config.hidden) * 0.01)
        made[f"{at}.norm/norm/bias"] = floats(draw.standard_normal(config.hidden) * 0.01)
    return TaskConfig(kind), made


def adapter(draw: np.random.Generator, at: str, hidden: int) -> Arrays:
    """Draw one bottleneck."""
    shapes = {"down.weight": (hidden, ADAPTER_WIDTH), "down.bias": (ADAPTER_WIDTH,)}
    shapes |= {"up.weight": (ADAPTER_WIDTH, hidden), "up.bias": (hidden,)}
    return {
        f"{at}/bottleneck/{part}": floats(draw.standard_normal(shape) * 0.02)
        for part, shape in shapes.items()
    }


def difference(draw: np.random.Generator, site: str, rows: int, cols: int) -> Arrays:
    """Draw one sparse difference."""
    counts = draw.binomial(rows, CHANGED, cols)
    entries = int(counts.sum())
    return {
        f"{site}/sparse/counts": whole(counts, "u16"),
        f"{site}/sparse/indices": whole(draw.integers(0, rows, entries), "u16"),
        f"{site}/sparse/values": floats(draw.standard_normal(entries) * 0.02),
    }


# -- what all sections do -------------------------------------------------------------------------

ROUNDS = 3


def made_tasks(model: Model, number: int) -> list[Task]:
    """Make tasks of the four kinds by turns."""
    return [read(model, *task(model.config, KINDS[i % 4], i)) for i in range(number)]


def queries(
    draw: np.random.Generator, sigma: float, number: int, words: int = 30000
) -> list[list[int]]:
    """Draw token ids, their lengths N(32, sigma) clipped to [1, 128]."""
    lengths = np.clip(np.rint(draw.normal(32, sigma, number)), 1, 128).astype(int)
    return [draw.integers(1000, words, n).tolist() for n in lengths]


def by_turns(*runs: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Run each some times, by turns, after once that is not counted; the median seconds."""
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds + 1):
        for run, own in zip(runs, taken, strict=True):
            begin = time.perf_counter()
            run()
            if turn:
                own.append(time.perf_counter() - begin)
    return [statistics.median(own) for own in taken]


def no_share(form: str, digest: bytes, make: Callable[[], bytes]) -> memoryview:
    """Keep what a backend makes to this process."""
    return memoryview(make())


def nothing() -> None:
    """Take no notice of the time that passes."""


def progress(text: str) -> None:
    """Tell on a terminal what is measured."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr)

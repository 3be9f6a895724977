"""Random tasks over any version, one of each kind, and the version that such a task amounts to."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pageformer.udfs.blocks import BlockMatrix
from pageformer.udfs.config import Config
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task import Bottleneck, TaskConfig
from pageformer.udfs.tasks.task_array import TaskArray, bits, floats, whole

Arrays = dict[str, TaskArray]
Draw = np.random.Generator
RANK = 4
TOKENS = 3  # of prefixes and prompts


def linears(config: Config) -> Iterator[tuple[str, int, int]]:
    """Name the linear maps of all layers, with their widths."""
    h, wide = config.hidden, config.intermediate
    for i in range(config.stored_layers):
        for part in ("query", "key", "value", "output"):
            yield f"layer.{i}.attention.{part}", h, h
        if config.gated:
            yield f"layer.{i}.feed_forward.gate", h, wide
        yield f"layer.{i}.feed_forward.up", h, wide
        yield f"layer.{i}.feed_forward.down", wide, h


def small(draw: Draw, *shape: int) -> TaskArray:
    return floats(draw.standard_normal(shape) * 0.2)


def near_one(draw: Draw, *shape: int) -> TaskArray:
    return floats(1 + draw.standard_normal(shape) * 0.2)


def low_rank(draw: Draw, config: Config) -> Arrays:
    arrays = {}
    for site, rows, cols in linears(config):
        arrays[f"{site}/low_rank/down"] = small(draw, rows, RANK)
        arrays[f"{site}/low_rank/up"] = small(draw, RANK, cols)
    return arrays


def scaled_low_rank(draw: Draw, config: Config) -> Arrays:
    """What DoRA and a LoRA with biases come down to."""
    arrays = low_rank(draw, config)
    for site, _, cols in linears(config):
        arrays[f"{site}/scale_out/factor"] = near_one(draw, cols)
        arrays[f"{site}/bias/difference"] = small(draw, cols)
    return arrays


def scales(draw: Draw, config: Config) -> Arrays:
    """What IA3 comes down to."""
    arrays = {}
    for site, rows, cols in linears(config):
        if site.endswith("down"):
            arrays[f"{site}/scale_in/factor"] = near_one(draw, rows)
        elif site.endswith(("key", "value")):
            arrays[f"{site}/scale_out/factor"] = near_one(draw, cols)
    return arrays


def biases(draw: Draw, config: Config) -> Arrays:
    arrays = {f"{site}/bias/difference": small(draw, cols) for site, _, cols in linears(config)}
    norms = [
        f"layer.{i}.{at}" for i in range(config.layers) for at in ("attention", "feed_forward")
    ]
    for site in ("embeddings", *norms):
        arrays[f"{site}.norm/norm/weight"] = near_one(draw, config.hidden)
        arrays[f"{site}.norm/norm/bias"] = small(draw, config.hidden)
    return arrays


def sparse(draw: Draw, config: Config) -> Arrays:
    arrays = {}
    for site, rows, cols in linears(config):
        lines = [np.sort(draw.permutation(rows)[: draw.integers(0, 4)]) for _ in range(cols)]
        arrays |= few_entries(draw, site, lines)
    lines = [draw.permutation(config.hidden)[:2] for _ in range(config.vocabulary)]
    return arrays | few_entries(draw, "embeddings.word", lines)


def few_entries(draw: Draw, site: str, lines: list[Any]) -> Arrays:
    indices = np.concatenate(lines)
    return {
        f"{site}/sparse/counts": whole([len(line) for line in lines], "u16"),
        f"{site}/sparse/indices": whole(indices, "u16"),
        f"{site}/sparse/values": small(draw, len(indices)),
    }


def mask(draw: Draw, config: Config) -> Arrays:
    return {
        f"{site}/mask/kept": bits(draw.random((rows, cols)) < 0.9)
        for site, rows, cols in linears(config)
    }


def rows(draw: Draw, config: Config) -> Arrays:
    """What a LoRA on embeddings and retrained ones come down to."""
    numbers = np.sort(draw.permutation(config.vocabulary)[: config.vocabulary // 2])
    arrays = {
        "embeddings.word/rows/numbers": whole(numbers, "u32"),
        "embeddings.word/rows/values": small(draw, len(numbers), config.hidden),
    }
    if config.position_table:
        arrays["embeddings.position/low_rank/down"] = small(draw, config.positions, RANK)
        arrays["embeddings.position/low_rank/up"] = small(draw, RANK, config.hidden)
    return arrays


def bottlenecks(draw: Draw, config: Config) -> Arrays:
    arrays = {}
    h = config.hidden
    for site in bottleneck_places(config):
        arrays[f"{site}/bottleneck/down.weight"] = small(draw, h, RANK)
        arrays[f"{site}/bottleneck/down.bias"] = small(draw, RANK)
        arrays[f"{site}/bottleneck/up.weight"] = small(draw, RANK, h)
        arrays[f"{site}/bottleneck/up.bias"] = small(draw, h)
        for norm in ("before", "after") if "1" in site else ():
            arrays[f"{site}/bottleneck/{norm}.weight"] = near_one(draw, h)
            arrays[f"{site}/bottleneck/{norm}.bias"] = small(draw, h)
    return arrays


def bottleneck_places(config: Config) -> list[str]:
    return [f"layer.{i}.{at}" for i in range(config.layers) for at in ("attention", "feed_forward")]


def prefix(draw: Draw, config: Config) -> Arrays:
    return {
        f"layer.{i}/prefix/{part}": small(draw, TOKENS, config.hidden)
        for i in range(config.layers)
        for part in ("keys", "values")
    }


def prompt(draw: Draw, config: Config) -> Arrays:
    return {"embeddings/prompt/embeddings": small(draw, TOKENS, config.hidden)}


MERGED: dict[str, Callable[[Draw, Config], Arrays]] = {
    "low rank": low_rank,
    "scaled low rank": scaled_low_rank,
    "scales": scales,
    "biases": biases,
    "sparse": sparse,
    "mask": mask,
    "rows": rows,
}
ADDED: dict[str, Callable[[Draw, Config], Arrays]] = {
    "bottlenecks": bottlenecks,
    "bottlenecks in parallel": bottlenecks,
    "bottlenecks behind the norm": bottlenecks,
    "prefix": prefix,
    "prompt": prompt,
}
KINDS = MERGED | ADDED
PLACES = {
    "bottlenecks": Bottleneck("relu"),
    "bottlenecks in parallel": Bottleneck("silu", input="residual"),
    "bottlenecks behind the norm": Bottleneck("gelu", input="normed", base_before_norm=False),
}


def config_of(kind: str, config: Config) -> TaskConfig:
    places = bottleneck_places(config) if kind in PLACES else []
    first = TOKENS if kind == "prefix" else 0
    return TaskConfig(kind, {site: PLACES[kind] for site in places}, first_position=first)


def arrays_of(kind: str, config: Config, seed: int = 1) -> Arrays:
    return KINDS[kind](np.random.default_rng([seed, list(KINDS).index(kind)]), config)


# -- the version that edits amount to -------------------------------------------------------------


def merged(model: Model, arrays: Mapping[str, TaskArray]) -> Model:
    """Return the version with a task's edits worked into its own tensors."""
    plain = {name: array.read() for name, array in arrays.items()}
    matrices, vectors = dict(model.matrices), dict(model.vectors)
    for site in dict.fromkeys(name.split("/")[0] for name in plain):
        parts = {n.partition("/")[2]: a for n, a in plain.items() if n.startswith(f"{site}/")}
        if site in matrices:
            matrices[site] = recut(matrices[site], table(dense(matrices[site]), parts))
        elif site.endswith("norm"):
            vectors[f"{site}.weight"] = parts["norm/weight"]
            vectors[f"{site}.bias"] = parts["norm/bias"]
        else:
            name = f"{site}.weight"
            matrices[name] = recut(matrices[name], weight(dense(matrices[name]), parts))
            difference = parts.get("bias/difference", np.float32(0))
            vectors[f"{site}.bias"] = vectors[f"{site}.bias"] + difference
    return replace(model, matrices=matrices, vectors=vectors, layers=None)


def weight(W: Any, parts: Mapping[str, Any]) -> Any:
    if "mask/kept" in parts:
        W = W * parts["mask/kept"]
    if "low_rank/down" in parts:
        W = W + parts["low_rank/down"].astype(float) @ parts["low_rank/up"]
    if "sparse/counts" in parts:
        W = W + spread(parts, W.shape[::-1]).T
    if "scale_in/factor" in parts:
        W = parts["scale_in/factor"][:, None] * W
    return W * parts.get("scale_out/factor", np.float32(1))


def table(rows: Any, parts: Mapping[str, Any]) -> Any:
    if "rows/numbers" in parts:
        rows = rows.copy()
        rows[parts["rows/numbers"]] = parts["rows/values"]
    if "low_rank/down" in parts:
        rows = rows + parts["low_rank/down"] @ parts["low_rank/up"]
    return rows + spread(parts, rows.shape) if "sparse/counts" in parts else rows


def spread(parts: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    whole = np.zeros(shape)
    line = np.repeat(np.arange(shape[0]), parts["sparse/counts"])
    whole[line, parts["sparse/indices"]] = parts["sparse/values"]
    return whole


def dense(matrix: BlockMatrix) -> Any:
    rows = [np.concatenate([np.asarray(block) for block in row], axis=1) for row in matrix.grid]
    return np.concatenate(rows)[: matrix.rows, : matrix.cols].astype(float)


def recut(matrix: BlockMatrix, array: Any) -> BlockMatrix:
    return BlockMatrix.from_array(array.astype(np.float32), matrix.side)

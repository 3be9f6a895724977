"""Tokens per second and latency on a GPU, beside PyTorch and ONNX Runtime on the same one.

    python -m bench.gpu   # where pageformer[gpu], torch, transformers and onnxruntime-gpu are

All runtimes get the same token ids and random weights of the shapes of BERT-base and MiniLM-L6, by
turns, and end with the states on the device. PyTorch: scaled-dot-product attention, bfloat16,
compiled. Batches of equal length, then of lengths drawn uniformly from 10 to 500, which the peers
pad. Writes bench/results/gpu-DEVICE-DATE.md, with what intermediate arrays take by plan beside
CuPy's pool. Without a device it says that nothing was measured, and fails.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.gpu_peers import PEERS
from bench.paired import pairs, percentiles
from pageformer.errors import ServerUnready
from pageformer.gpu_backend.planner import Plan
from pageformer.udfs import encoder
from pageformer.udfs.backends import choose
from pageformer.udfs.blocks import BlockMatrix
from pageformer.udfs.config import Config
from pageformer.udfs.model import Model

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 4, 16, 64, 128)
LENGTHS = (10, 40, 128, 250, 500)
COMPUTE = "bfloat16"
RUNS = 9


class Shape(NamedTuple):
    """Hold the shape of an encoder."""

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int


SHAPES = (Shape("BERT-base", 12, 768, 12, 3072), Shape("MiniLM-L6", 6, 384, 12, 1536))
VOCABULARY, POSITIONS, SIDE = 30522, 512, 128
States = Callable[[list[Any]], Any]  # lists of token ids -> when it returns, all is computed


def weights(shape: Shape) -> dict[str, Any]:
    """Draw weights under our names; matrices are [in, out]."""
    random = np.random.default_rng(5)

    def drawn(*size: int) -> Any:
        return (random.standard_normal(size) * 0.02).astype(np.float32)

    h, wide = shape.hidden, shape.intermediate
    found = {"embeddings.word": drawn(VOCABULARY, h), "embeddings.position": drawn(POSITIONS, h)}
    found["embeddings.token_type"] = drawn(2, h)
    linears = {f"attention.{part}": (h, h) for part in ("query", "key", "value", "output")}
    linears |= {"feed_forward.up": (h, wide), "feed_forward.down": (wide, h)}
    norms = ["embeddings.norm"]
    for layer in range(shape.layers):
        for name, size in linears.items():
            found[f"layer.{layer}.{name}.weight"] = drawn(*size)
            found[f"layer.{layer}.{name}.bias"] = drawn(size[1])
        norms += [f"layer.{layer}.{part}.norm" for part in ("attention", "feed_forward")]
    for norm in norms:
        found[f"{norm}.weight"], found[f"{norm}.bias"] = 1 + drawn(h), drawn(h)
    return found


def model(shape: Shape, operators: Any) -> Model:
    """Put drawn weights on the device, in blocks."""
    found = weights(shape)
    matrices = {name: blocks(w, operators) for name, w in found.items() if w.ndim == 2}
    vectors = {name: operators.array(w) for name, w in found.items() if w.ndim == 1}
    return Model(config(shape), operators, matrices, vectors)


def blocks(weight: Any, operators: Any) -> BlockMatrix:
    """Cut a matrix into blocks of the device."""
    cut = BlockMatrix.from_array(weight, SIDE)
    grid = tuple(tuple(map(operators.array, row)) for row in cut.grid)
    return BlockMatrix(grid, cut.rows, cut.cols, cut.side)


def config(shape: Shape) -> Config:
    """Return the config of a post-norm encoder like BERT."""
    return Config(
        "bert", shape.hidden, shape.layers, shape.heads, shape.intermediate, "gelu", 1e-12,
        vocabulary=VOCABULARY, positions=POSITIONS, token_types=2, max_length=POSITIONS,
    )  # fmt: skip


def ours(shape: Shape) -> tuple[States, Any]:
    """Open our encoder on the device; returns its operators, too."""
    import cupy

    operators: Any = choose("gpu").at(COMPUTE)
    opened = model(shape, operators)

    def states(sequences: list[Any]) -> None:
        encoder.token_states(opened, encoder.join(sequences), lambda: None)
        cupy.cuda.Stream.null.synchronize()

    return states, operators


def batches() -> Iterator[tuple[str, list[Any]]]:
    """Draw the grid: every batch with every length, then with lengths of all kinds."""
    random = np.random.default_rng(3)
    for batch in BATCHES:
        grid = {str(length): [length] * batch for length in LENGTHS}
        grid["10 to 500"] = random.integers(10, 501, batch).tolist()
        for name, lengths in grid.items():
            ids = [random.integers(0, VOCABULARY, length).tolist() for length in lengths]
            yield f"{batch} x {name}", ids


def measured(shape: Shape) -> Iterator[str]:
    """Compare with each peer in each cell of the grid."""
    mine, operators = ours(shape)
    peers = {name: opened(shape, weights(shape)) for name, opened in PEERS.items()}
    for cell, ids in batches():
        tokens = sum(map(len, ids))
        told = []
        for theirs in peers.values():
            timed = pairs(
                lambda ids=ids: mine(ids), lambda ids=ids, theirs=theirs: theirs(ids), RUNS
            )  # type: ignore[misc]
            middle, worst = percentiles(timed.peer)
            told.append(f"{tokens / middle:.0f}, {middle * 1e3:.2f}, {worst * 1e3:.2f} | {timed}")
        middle, worst = percentiles(timed.ours)
        mine_told = f"{tokens / middle:.0f}, {middle * 1e3:.2f}, {worst * 1e3:.2f}"
        yield f"| {shape.name}, {cell} | {mine_told} | {' | '.join(told)} |"
    yield f"\n{shape.name}: {footprint(operators.arena.plan)}; CuPy's pool took {pooled()}.\n"


def pooled() -> str:
    """Tell what CuPy's own pool holds beside weights and arena."""
    import cupy

    return mebibytes(cupy.get_default_memory_pool().total_bytes())


def footprint(plan: Plan) -> str:
    """Tell what a plan takes, beside the least that any plan takes."""
    share = plan.footprint / plan.bound if plan.bound else 1
    return (
        f"intermediate arrays take {mebibytes(plan.footprint)} by plan, {share:.3f} x the "
        f"{mebibytes(plan.bound)} that live at once"
    )


def mebibytes(count: int) -> str:
    """Write bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def page(device: str) -> str:
    """Measure both shapes and write the table."""
    head = "".join(f" {name}: the same | ours is faster by |" for name in PEERS)
    lines = [f"# {device}, {datetime.now(UTC):%Y-%m-%d}, {COMPUTE}", ""]
    lines += [f"| encoder, batch x length | ours: tokens/s, median ms, p99 ms |{head}"]
    lines += ["|---|---|" + "---|---|" * len(PEERS)]
    for line in (line for shape in SHAPES for line in measured(shape)):
        print(line, flush=True)
        lines.append(line)
    return "\n".join([*lines, f"Ratios: median (lowest to highest) of {RUNS} runs by turns.", ""])


def main() -> int:
    """Measure and write, or say why not."""
    try:
        choose("gpu")
    except ServerUnready as error:
        print(f"nothing was measured: {error.message}")
        return 1
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode().replace(" ", "-")
    file = RESULTS / f"gpu-{device}-{datetime.now(UTC):%Y-%m-%d}.md"
    file.write_text(page(device), encoding="utf-8")
    print(f"written to {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

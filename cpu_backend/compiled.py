"""A version as one compiled object that turns token ids into vectors, without NumPy.

Fit for post-norm encoders with embeddings (BERT and its kin). Whatever else there is runs through
the composition of single operators.
"""

import hashlib
import math
import struct
from array import array
from collections.abc import Callable, Iterable, Sequence

from pageformer.cpu_backend import _kernels as kernels
from pageformer.errors import NotBuilt
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.layout import BUNDLE, MAX_DISTANCE, Layout, TensorRow

# (form, digest of the sources, how to make it) -> the bytes, kept for all connections.
Share = Callable[[str, bytes, Callable[[], bytes]], memoryview]

# Panels of weights are a form of the page cache; the layouts are those of kernels/panels.c.
NARROW = {"bfloat16": (kernels.BFLOAT16, "bf16panels"), "int8": (kernels.INT8, "int8panels")}

# Computed in bfloat16 where the others are in int8: half of what int8 is off comes from here.
SENSITIVE = "attention.value"

TOLD_AT_ONCE = 256  # vectors, of ten microseconds or two each


def not_shared(form: str, digest: bytes, make: Callable[[], bytes]) -> memoryview:
    """Keep panels in this process alone."""
    return memoryview(make())


class Tensors:
    """View the tensors of a version in its mapped pages."""

    def __init__(self, layout: Layout, compute: str, share: Share) -> None:
        self._compute = compute
        self._share = share
        self._side = layout.side
        self._rows = {row.name: row for row in layout.rows}
        self._places = layout.places
        self._pages = layout.pages
        self._bundle = memoryview(b"".join(self._blocks(self._rows[BUNDLE]))).cast("f")

    def _blocks(self, row: TensorRow) -> list[memoryview]:
        blocks = []
        for names in row.grid or ():
            for name in names:
                page, start, elements = self._places[name]
                blocks.append(self._pages[page][start : start + elements])
        return blocks

    def matrix(self, name: str) -> kernels.Matrix:
        """Return a weight or table as a grid of blocks."""
        row = self._rows[name]
        return kernels.Matrix(self._blocks(row), row.shape[0], row.shape[1], self._side)

    def vector(self, name: str) -> "memoryview[float]":
        """Return a bias or the weights of a norm."""
        row = self._rows[name]
        offset = row.bundle_offset or 0
        return self._bundle[offset : offset + row.shape[0]]

    def linear(self, name: str) -> tuple[object, object, object, int]:
        """Return a linear map: weight, bias, and the panels to compute it by, with their form."""
        weight, bias = self.matrix(f"{name}.weight"), self.vector(f"{name}.bias")
        if self._compute == "float32":
            return weight, bias, None, kernels.FLOAT32
        form, kind = NARROW["bfloat16" if name.endswith(SENSITIVE) else self._compute]
        digest = self.name_of(f"{name}.weight")
        made = self._share(kind, digest, lambda: kernels.panels(weight, form))
        return weight, bias, made, form

    def name_of(self, name: str) -> bytes:
        """Name the content of a matrix by the names of its blocks."""
        row = self._rows[name]
        digest = hashlib.sha256(f"{row.shape[0]}x{row.shape[1]}:".encode())
        for names in row.grid or ():
            digest.update(b"".join(names))
        return digest.digest()

    def norm(self, name: str) -> "tuple[memoryview[float], memoryview[float]]":
        """Return the weight and the bias of a layer norm."""
        return self.vector(f"{name}.weight"), self.vector(f"{name}.bias")

    def rows_of(self, name: str) -> list[Sequence[float]]:
        """Return the rows of a small table."""
        row, side = self._rows[name], self._side
        blocks, across = self._blocks(row), -(-row.shape[1] // side)
        return [
            [
                value
                for j in range(across)
                for value in blocks[i // side * across + j][i % side * side : (i % side + 1) * side]
            ][: row.shape[1]]
            for i in range(row.shape[0])
        ]


def fits(config: Config) -> bool:
    """Tell whether a version of this config can be compiled into one object."""
    has_parts = config.vocabulary > 0 and config.intermediate > 0
    return config.is_classic and config.norm_place == "post" and has_parts


def compile_encoder(
    layout: Layout, variant: str, compute: str = "float32", share: Share = not_shared
) -> kernels.Encoder:
    """Make the compiled encoder of a version, with products in float32, bfloat16 or int8."""
    config, tensors = layout.config, Tensors(layout, compute, share)
    tables = ["embeddings.word", "embeddings.position"]
    if config.token_types:
        tables.append("embeddings.token_type")
    return kernels.Encoder(
        variant=variant,
        hidden=config.hidden,
        heads=config.heads,
        intermediate=config.intermediate,
        activation=config.activation,
        eps=config.norm_eps,
        padding_id=-1 if config.padding_id is None else config.padding_id,
        longest=config.max_length,
        first_token=config.pooling == "cls",
        tables=tuple(map(tensors.matrix, tables)),
        norm=tensors.norm("embeddings.norm"),
        layers=tuple(layer(tensors, config, f"layer.{i}") for i in range(config.layers)),
        relative=relative_bias(config, tensors) if config.relative_buckets else None,
    )


def layer(tensors: Tensors, config: Config, name: str) -> tuple[object, ...]:
    """Return the parts of a layer: those of attention, and of a feed-forward part if it has one."""
    attention = (
        tensors.linear(f"{name}.attention.query"),
        tensors.linear(f"{name}.attention.key"),
        tensors.linear(f"{name}.attention.value"),
        tensors.linear(f"{name}.attention.output"),
        tensors.norm(f"{name}.attention.norm"),
    )
    if not config.intermediate:
        return attention
    return (
        *attention,
        tensors.linear(f"{name}.feed_forward.up"),
        tensors.linear(f"{name}.feed_forward.down"),
        tensors.norm(f"{name}.feed_forward.norm"),
    )


def relative_bias(config: Config, tensors: Tensors) -> "array[float]":
    """Look up the attention bias of every relative position.  # [heads, 2 longest - 1]"""
    table = tensors.rows_of("relative_attention_bias")
    distances = range(1 - config.max_length, config.max_length)
    chosen = [table[relative_bucket(j, config.relative_buckets)] for j in distances]
    return array("f", [row[head] for head in range(config.heads) for row in chosen])


def relative_bucket(distance: int, buckets: int) -> int:
    """Number a relative position as udfs/encoder.py does, in float32 like the reference."""
    half = buckets // 2
    exact = half // 2
    far = abs(distance)
    bucket = far
    if far >= exact:
        scale = float32(float32(math.log(far / exact)) / math.log(MAX_DISTANCE / exact))
        bucket = min(exact + int(float32(scale * (half - exact))), half - 1)
    return bucket + half * (distance > 0)


def float32(x: float) -> float:
    """Round to float32."""
    rounded: float = struct.unpack("f", struct.pack("f", x))[0]
    return rounded


class CompiledEncoder:
    """Turn token ids into texts of vectors by a compiled encoder."""

    def __init__(self, config: Config, encoder: kernels.Encoder, threads: int = 0) -> None:
        self._config = config
        self._encoder = encoder
        self._threads = threads

    def vectors(
        self,
        sequences: Iterable[Sequence[int]],
        dimensions: int | None,
        normalized: bool | None,
        pulse: Pulse,
        skip: int = 0,  # not asked for: a version that leaves prompts out is composed
    ) -> list[str]:
        """Encode sequences of token ids; those that come first are computed while others follow."""
        job = kernels.Job(self._encoder, self._threads)
        compute(job, sequences, pulse)
        chosen = self._config.normalized if normalized is None else normalized
        return told(job, dimensions or 0, chosen, pulse)

    def states(
        self, ids: Sequence[int], dimensions: int | None, normalized: bool | None, pulse: Pulse
    ) -> list[str]:
        """Compute the state of each token, before pooling."""
        job = kernels.Job(self._encoder, self._threads, True)
        compute(job, [ids], pulse)
        return told(job, dimensions or 0, bool(normalized), pulse)

    def spent(self, sequences: Iterable[Sequence[int]]) -> dict[str, float]:
        """Compute sequences, and return the seconds of each step, of all threads together."""
        job = kernels.Job(self._encoder, self._threads)
        compute(job, sequences, lambda: None)
        return job.spent or {}

    def alone(self) -> "CompiledEncoder":
        """Return the same encoder, which computes in the caller's thread and wakes no others."""
        return CompiledEncoder(self._config, self._encoder, threads=1)


def encoder(layout: Layout, compute: str, share: Share) -> CompiledEncoder:
    """Make a version ready to encode with the best kernels of this machine.

    compute: float32, bfloat16, int8, or auto, which is bfloat16 where the processor multiplies it.
    Raises NotBuilt for widths that panels cannot be cut to.
    """
    chosen = chosen_compute(layout.config, compute)
    if chosen != "float32" and (reason := uneven(layout.config)):
        raise NotBuilt(
            f"this model is not computed in {chosen}: {reason}",
            hint="run: select pageformer.set_compute(model, 'float32')",
        )
    made = compile_encoder(layout, kernels.variants()[0], chosen, share)
    return CompiledEncoder(layout.config, made)


def chosen_compute(config: Config, compute: str) -> str:
    """Return what a setting means on this machine: `auto` is float32 or bfloat16."""
    if compute != "auto":
        return compute
    multiplies = kernels.variants()[0] in ("amx", "avx512_bf16")
    return "bfloat16" if multiplies and not uneven(config) else "float32"


def uneven(config: Config) -> str | None:
    """Tell why weights cannot be cut into panels; None: they can."""
    if config.hidden % 32 == 0 and config.intermediate % 32 == 0:
        return None
    return f"its widths {config.hidden} and {config.intermediate} are not multiples of 32"


def compute(job: kernels.Job, sequences: Iterable[Sequence[int]], pulse: Pulse) -> None:
    """Compute to the end; whenever the kernels stop, PostgreSQL has something to see to."""
    try:
        for ids in sequences:
            job.add(ids)
        while not job.run():
            pulse()
    except BaseException:
        job.close()
        raise


def told(job: kernels.Job, dimensions: int, normalized: bool, pulse: Pulse) -> list[str]:
    """Write the vectors of a job that is done as texts, some at a time."""
    texts = more = job.texts(dimensions, normalized, 0, TOLD_AT_ONCE)
    while len(more) == TOLD_AT_ONCE:
        pulse()
        more = job.texts(dimensions, normalized, len(texts), len(texts) + TOLD_AT_ONCE)
        texts += more
    return texts

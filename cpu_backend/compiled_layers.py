"""The layers of a version as one compiled object: rows of floats in, rows out, without NumPy.

Fit for what compiled.py knows of layers, post-norm or pre-norm, always in float32.
"""

from collections.abc import Sequence
from typing import Any

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend.compiled import Tensors, compute, layer, not_shared, told
from pageformer.udfs.block_value import Buffer
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.layout import Layout

# (layer, site in it by its number in kernels/job.h, [(start, stop, edits of a task), ...])
Site = tuple[int, int, list[tuple[int, int, Any]]]


def fits(config: Config) -> bool:
    """Tell whether the layers of this config can be compiled into one object."""
    return config.is_classic and not config.relative_buckets


def compile_layers(layout: Layout, variant: str) -> kernels.Encoder:
    """Make the compiled layers of a version."""
    config, tensors = layout.config, Tensors(layout, "float32", not_shared)
    return kernels.Encoder(
        variant=variant,
        hidden=config.hidden,
        heads=config.heads,
        intermediate=config.intermediate,
        activation=config.activation,
        eps=config.norm_eps,
        padding_id=-1,
        longest=0,
        first_token=False,
        tables=(),
        norm=None,
        layers=tuple(layer(tensors, config, f"layer.{i}") for i in range(config.layers)),
        relative=None,
        norm_first=config.norm_place == "pre",
        final_activation=config.final_activation,
    )


class CompiledLayers:
    """Run compiled layers over sequences of rows."""

    def __init__(self, layers: kernels.Encoder) -> None:
        self._layers = layers

    def states(
        self, rows: Buffer, lengths: list[int], pulse: Pulse, sites: Sequence[Site] = ()
    ) -> bytes:
        """Compute the last state of every row.  # [sum of lengths, hidden] -> the same

        sites: what tasks edit, in rows that ascend; of post-norm layers alone.
        """
        return self._run(rows, lengths, pulse, sites).answer or b""

    def texts(self, rows: Buffer, lengths: list[int], pulse: Pulse) -> list[str]:
        """Compute the same, each row told as a vector's text."""
        return told(self._run(rows, lengths, pulse), 0, False, pulse)

    def _run(
        self, rows: Buffer, lengths: list[int], pulse: Pulse, sites: Sequence[Site] = ()
    ) -> kernels.Job:
        job = kernels.Job(self._layers, 0, True)
        job.add_rows(rows, lengths, list(sites))
        compute(job, (), pulse)
        return job


def layers(layout: Layout) -> CompiledLayers:
    """Make the layers of a version ready to run with the best kernels of this machine."""
    return CompiledLayers(compile_layers(layout, kernels.variants()[0]))

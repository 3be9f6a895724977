"""All layers of a version in one job, for passes that are composed but for them.

What tasks edit in a batch goes along; where the job does not know an edit, the layers are composed.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pageformer.cpu_backend import _kernels as kernels
from pageformer.cpu_backend import compiled_layers
from pageformer.cpu_backend.compiled_layers import CompiledLayers
from pageformer.cpu_backend.edits import CODES
from pageformer.udfs.blocks import Array
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.layout import Layout
from pageformer.udfs.tasks.edits import EndEdits, LinearEdits, Term

# Of a layer, in the order of kernels/job.h: linear maps, then ends of sub-layers.
SITES = (
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.output",
    "feed_forward.up",
    "feed_forward.down",
    "attention",
    "feed_forward",
)
Terms = Mapping[str, Sequence[Term]]


class EditedLayers:
    """Run the layers of a version over a batch.

    linear_edits, end_edits: make what kernels read of a task's edits at a linear map of
    `[rows, cols]`, or at the end of a sub-layer of a width.
    """

    def __init__(
        self,
        layout: Layout,
        variant: str,
        linear_edits: Callable[[LinearEdits, int, int], kernels.LinearEdits],
        end_edits: Callable[[EndEdits, int], kernels.EndEdits],
    ) -> None:
        self._layout = layout
        self._variant = variant
        self._linear_edits = linear_edits
        self._end_edits = end_edits
        names = [f"layer.{i}." for i in range(layout.config.layers)]
        self._places = {
            name + site: (layer, code)
            for layer, name in enumerate(names)
            for code, site in enumerate(SITES)
        }

    @cached_property
    def _layers(self) -> CompiledLayers:
        return CompiledLayers(compiled_layers.compile_layers(self._layout, self._variant))

    def knows(self, terms: Terms) -> bool:
        """Tell whether the job computes all that tasks edit in layers."""
        within = {site: own for site, own in terms.items() if site.startswith("layer.")}
        config = self._layout.config
        takes_edits = config.norm_place == "post" and config.intermediate > 0
        return not within or (
            takes_edits
            and within.keys() <= self._places.keys()
            and all(known(term.edits) for own in within.values() for term in own)
        )

    def states(self, x: Array, offsets: Sequence[int], terms: Terms, pulse: Pulse) -> Array:
        """Compute the last state of every token.  # [n, hidden] -> [n, hidden]"""
        sites = [
            (*self._places[site], [(t.start, t.stop, self._made(site, t.edits)) for t in own])
            for site, own in terms.items()
            if site in self._places
        ]
        rows = np.ascontiguousarray(x, np.float32)
        lengths = np.diff(offsets).tolist()
        states = self._layers.states(rows.data, lengths, pulse, sites)
        return np.frombuffer(states, np.float32).reshape(x.shape)

    def _made(self, site: str, edits: Any) -> Any:
        hidden, inner = self._layout.config.hidden, self._layout.config.intermediate
        if isinstance(edits, EndEdits):
            return self._end_edits(edits, hidden)
        rows = inner if site.endswith(".down") else hidden
        cols = inner if site.endswith(".up") else hidden
        return self._linear_edits(edits, rows, cols)


def known(edits: Any) -> bool:
    """Tell whether the kernels compute these edits."""
    if isinstance(edits, EndEdits):
        return edits.bottleneck is None or edits.bottleneck.place.activation in CODES
    return isinstance(edits, LinearEdits)

"""A version's tensors as the forward pass wants them: block matrices, vectors, layers.

Built from a layout (which page and slot holds each block) and the mapped pages; no weight is copied
but the 1-D ones, which share one bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pageformer.udfs.blocks import Array, BlockMatrix
from pageformer.udfs.config import Config
from pageformer.udfs.layout import BUNDLE, Layout
from pageformer.udfs.matrices import Streamed, matrices, opened
from pageformer.udfs.operators import Operators, WholeLayers
from pageformer.udfs.tasks.edits import Norm, Term
from pageformer.udfs.tasks.learnt import Learnt


@dataclass(frozen=True)
class Linear:
    """Hold a linear map: weight `[in, out]`, bias `[out]` where it has one, and tasks' edits."""

    weight: BlockMatrix
    bias: Array | None
    terms: Sequence[Term] = ()


@dataclass(frozen=True)
class Layer:
    """Hold one encoder layer."""

    name: str
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    attention_norm: Norm | None
    gate: Linear | None
    up: Linear | None
    down: Linear | None
    feed_forward_norm: Norm | None


@dataclass(frozen=True)
class Model:
    """Hold one version, ready to run: its config and its tensors on one backend.

    terms: by site, what tasks change there in the rows of one batch (task_run.py). learnt: what
    batches of this version cost here, shared by all that are edited from it. layers: what runs them
    all in one call; None: they are composed.
    """

    config: Config
    operators: Operators
    matrices: Mapping[str, BlockMatrix]
    vectors: Mapping[str, Array]
    terms: Mapping[str, Sequence[Term]] = field(default_factory=dict)
    learnt: Learnt = field(default_factory=Learnt)
    layers: WholeLayers | None = None

    @property
    def streamed(self) -> bool:
        """Tell whether weights are opened layer by layer, and anew for each batch."""
        return isinstance(self.matrices, Streamed)

    @property
    def order(self) -> Sequence[int]:
        """Return the numbers of the layers in the order of computation; one may come again."""
        return self.config.layer_order or range(self.config.stored_layers)

    def layer(self, number: int) -> Layer:
        """Return a layer; its matrices are open as long as it is kept."""
        name = f"layer.{number}"
        return replace(self, matrices=opened(self.matrices, f"{name}."))._layer(name)

    @cached_property
    def embedding_norm(self) -> Norm:
        """Return the norm behind the embeddings."""
        return self.norm("embeddings.norm")

    def linear(self, name: str) -> Linear:
        """Return the linear map `name`."""
        weight, bias = self.matrices[f"{name}.weight"], self.vectors.get(f"{name}.bias")
        return Linear(weight, bias, self.terms_at(name))

    def terms_at(self, site: str) -> Sequence[Term]:
        """Return what tasks change at a site."""
        return self.terms.get(site, ())

    def norm(self, name: str, eps: float | None = None) -> Norm:
        """Return the layer norm `name`."""
        weight, bias = self.vectors[f"{name}.weight"], self.vectors.get(f"{name}.bias")
        if bias is None:
            bias = self.operators.xp.zeros_like(weight)
        return Norm(weight, bias, self.config.norm_eps if eps is None else eps)

    def _norm_or_none(self, name: str) -> Norm | None:
        return self.norm(name) if f"{name}.weight" in self.vectors else None

    def _layer(self, name: str) -> Layer:
        feeds = self.config.intermediate > 0
        return Layer(
            name=name,
            query=self.linear(f"{name}.attention.query"),
            key=self.linear(f"{name}.attention.key"),
            value=self.linear(f"{name}.attention.value"),
            output=self.linear(f"{name}.attention.output"),
            attention_norm=self._norm_or_none(f"{name}.attention.norm"),
            gate=self.linear(f"{name}.feed_forward.gate") if self.config.gated else None,
            up=self.linear(f"{name}.feed_forward.up") if feeds else None,
            down=self.linear(f"{name}.feed_forward.down") if feeds else None,
            feed_forward_norm=self.norm(f"{name}.feed_forward.norm") if feeds else None,
        )


def assemble(layout: Layout, operators: Operators) -> Model:
    """View a version's tensors in its pages."""
    found = matrices(layout, operators)
    bundle = operators.bundle(found[BUNDLE])
    vectors = {
        row.name: bundle[row.bundle_offset : row.bundle_offset + row.shape[0]]
        for row in layout.rows
        if row.bundle_offset is not None
    }
    return Model(layout.config, operators, found, vectors, layers=operators.layers(layout))

"""The frozen description of one version: all that the forward pass needs beside its tensors.

A family (`loader/families/`) translates a checkpoint's own config into this one; it is stored as
canonical JSON with the version and is part of the version's hash. A field that came later is left
out of the JSON at its default, so that versions keep their hashes.
"""

import json
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Literal

# Fields that the first release did not have, and among them those that change the forward pass.
LATER = {"later": True, "in_pass": True}


@dataclass(frozen=True)
class Config:
    """Describe an encoder: sizes, where norms stand, positions, and what is made of its output."""

    family: str
    hidden: int
    layers: int
    heads: int
    intermediate: int  # 0: no feed-forward part
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"]
    norm_eps: float
    norm_place: Literal["post", "pre"] = "post"
    final_activation: bool = False  # the activation again after the second linear

    vocabulary: int = 0  # 0: no embeddings, the model takes a tensor
    positions: int = 0  # rows of the position table, or how far positions are counted without one
    padding_id: int | None = None  # RoBERTa: positions count on from here and skip this id
    token_types: int = 0
    relative_buckets: int = 0  # MPNet: rows of the relative attention bias

    pooling: str = "mean"  # a mode of sentence-transformers, or several joined by +
    normalized: bool = False
    max_length: int = 0  # tokens, special ones included
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None

    # What stands between pooling and `normalized`: dense, layer_norm and normalize, in order.
    modules: list[dict[str, Any]] = field(default_factory=list, metadata=LATER)
    # False: a prompt's tokens are not pooled.
    include_prompt: bool = field(default=True, metadata=LATER)
    # Elements kept unless a call says how many; 0: all.
    truncate_dim: int = field(default=0, metadata=LATER)

    # What stands on the encoder beside pooling: its task, layers, labels and scores; {}: nothing.
    head: dict[str, Any] = field(default_factory=dict, metadata={"later": True})

    # ColBERT: how long queries and documents are, what queries are filled with and tokens left out.
    late: dict[str, Any] = field(default_factory=dict, metadata=LATER)

    # What the families of later years changed; each default is what BERT does.
    embedding_size: int = field(default=0, metadata=LATER)  # ALBERT: projected to hidden; 0: none
    position_table: bool = field(default=True, metadata=LATER)
    layer_order: list[int] = field(default_factory=list, metadata=LATER)  # ALBERT: shared layers
    gated: bool = field(default=False, metadata=LATER)  # activation(gate(x)) * up(x) (GLU)
    attention_bias: bool = field(default=True, metadata=LATER)
    query_bias: bool = field(default=True, metadata=LATER)  # of query, key and value
    up_bias: bool = field(default=True, metadata=LATER)  # of up and gate
    down_bias: bool = field(default=True, metadata=LATER)
    norm_bias: bool = field(default=True, metadata=LATER)
    first_norm: bool = field(default=True, metadata=LATER)  # False: not before the first attention
    final_norm: bool = field(default=False, metadata=LATER)
    rotary_theta: float = field(default=0.0, metadata=LATER)  # base of rotary positions; 0: none
    rotary_divisor: float = field(default=1.0, metadata=LATER)  # of their frequencies
    local_layers: list[int] = field(default_factory=list, metadata=LATER)
    local_theta: float = field(default=0.0, metadata=LATER)  # the base in local layers
    window: int = field(default=0, metadata=LATER)  # tokens that see each other in local layers
    alibi: bool = field(default=False, metadata=LATER)  # a bias that falls with distance
    # DeBERTa: half the rows of the relative embeddings, distances told apart exactly or at all.
    relative_span: int = field(default=0, metadata=LATER)
    relative_reach: int = field(default=0, metadata=LATER)  # 0: distances have no buckets
    relative_norm: bool = field(default=False, metadata=LATER)
    relative_terms: list[str] = field(default_factory=list, metadata=LATER)  # of c2p and p2c
    # ViT: sizes of image and patch, and how pixels become numbers (udfs/pixels.py); {}: takes text.
    image: dict[str, Any] = field(default_factory=dict, metadata=LATER)

    @property
    def stored_layers(self) -> int:
        """Number of layers that have weights of their own."""
        return max(self.layer_order) + 1 if self.layer_order else self.layers

    @property
    def dimension(self) -> int:
        """Length of the vector that `encode` returns."""
        return self.truncate_dim or self.full_dimension

    @property
    def full_dimension(self) -> int:
        """Length of the vector before anything is cut off."""
        widths = [module["width"] for module in self.modules if "width" in module]
        return widths[-1] if widths else self.pooled

    @property
    def pooled(self) -> int:
        """Length of the vector that pooling makes."""
        return self.hidden * len(self.pooling.split("+"))

    @property
    def is_classic(self) -> bool:
        """Tell whether the pass is that of the first release, which whole-pass kernels know."""
        first = self.pooling in ("mean", "cls") and self.activation != "silu"
        return first and all(
            getattr(self, f.name) == default_of(f)
            for f in fields(self)
            if f.metadata.get("in_pass")
        )

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces, so that equal configs have equal hashes."""
        content = asdict(self)
        for f in fields(self):
            if f.metadata.get("later") and content[f.name] == default_of(f):
                del content[f.name]
        if self.dimension != self.hidden:
            content["dimension"] = self.dimension  # for the views
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        content.pop("dimension", None)
        return cls(**content)


def default_of(f: Field[Any]) -> Any:
    """Return the default of a field."""
    return f.default if f.default_factory is MISSING else f.default_factory()

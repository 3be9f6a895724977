"""The frozen description of one version: all that the forward pass needs beside its tensors.

A family (`loader/families/`) translates a checkpoint's own config into this one; it is stored as
canonical JSON with the version and is part of the version's hash. A field that came later is left
out of the JSON at its default, so that versions keep their hashes.
"""

import json
from typing import Any, Literal, NamedTuple

# Defaults, which all configs share and nobody changes.
NO_ENTRIES: dict[str, Any] = {}
NO_ITEMS: list[Any] = []


class Config(NamedTuple):
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
    prompts: dict[str, str] = NO_ENTRIES
    default_prompt_name: str | None = None

    # What stands between pooling and `normalized`: dense, layer_norm and normalize, in order.
    modules: list[dict[str, Any]] = NO_ITEMS
    # False: a prompt's tokens are not pooled.
    include_prompt: bool = True
    # Elements kept unless a call says how many; 0: all.
    truncate_dim: int = 0

    # What stands on the encoder beside pooling: its task, layers, labels and scores; {}: nothing.
    head: dict[str, Any] = NO_ENTRIES

    # ColBERT: how long queries and documents are, what queries are filled with and tokens left out.
    late: dict[str, Any] = NO_ENTRIES

    # What the families of later years changed; each default is what BERT does.
    embedding_size: int = 0  # ALBERT: projected to hidden; 0: none
    position_table: bool = True
    layer_order: list[int] = NO_ITEMS  # ALBERT: shared layers
    gated: bool = False  # activation(gate(x)) * up(x) (GLU)
    attention_bias: bool = True
    query_bias: bool = True  # of query, key and value
    up_bias: bool = True  # of up and gate
    down_bias: bool = True
    norm_bias: bool = True
    first_norm: bool = True  # False: not before the first attention
    final_norm: bool = False
    rotary_theta: float = 0.0  # base of rotary positions; 0: none
    rotary_divisor: float = 1.0  # of their frequencies
    local_layers: list[int] = NO_ITEMS
    local_theta: float = 0.0  # the base in local layers
    window: int = 0  # tokens that see each other in local layers
    alibi: bool = False  # a bias that falls with distance
    # DeBERTa: half the rows of the relative embeddings, distances told apart exactly or at all.
    relative_span: int = 0
    relative_reach: int = 0  # 0: distances have no buckets
    relative_norm: bool = False
    relative_terms: list[str] = NO_ITEMS  # of c2p and p2c
    # ViT: sizes of image and patch, and how pixels become numbers (udfs/pixels.py); {}: takes text.
    image: dict[str, Any] = NO_ENTRIES

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
            getattr(self, name) == default_of(name) for name in LATER if name != "head"
        )

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces, so that equal configs have equal hashes."""
        content = self._asdict()
        for name in LATER:
            if content[name] == default_of(name):
                del content[name]
        if self.dimension != self.hidden:
            content["dimension"] = self.dimension  # for the views
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        content.pop("dimension", None)
        return cls(**content)


# Fields that the first release did not have; all but `head` change the forward pass.
LATER = Config._fields[Config._fields.index("modules") :]


def default_of(name: str) -> Any:
    """Return the default of a field."""
    return Config._field_defaults[name]

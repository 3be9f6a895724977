"""The frozen description of one version: all that the forward pass needs beside its tensors.

A family (`loader/families/`) translates a checkpoint's own config into this one; it is stored as
canonical JSON with the version and is part of the version's hash.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Config:
    """Describe an encoder: sizes, where norms stand, positions, and what is made of its output."""

    family: str
    hidden: int
    layers: int
    heads: int
    intermediate: int  # 0: no feed-forward part
    activation: Literal["gelu", "gelu_tanh", "relu"]
    norm_eps: float
    norm_place: Literal["post", "pre"] = "post"
    final_activation: bool = False  # the activation again after the second linear

    vocabulary: int = 0  # 0: no embeddings, the model takes a tensor
    positions: int = 0  # rows of the position table
    padding_id: int | None = None  # RoBERTa: positions count on from here and skip this id
    token_types: int = 0
    relative_buckets: int = 0  # MPNet: rows of the relative attention bias

    pooling: Literal["mean", "cls"] = "mean"
    normalized: bool = False
    max_length: int = 0  # tokens, special ones included
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None

    @property
    def dimension(self) -> int:
        """Length of the vector that `encode` returns."""
        return self.hidden

    def to_json(self) -> str:
        """Write canonical JSON: sorted keys, no spaces, so that equal configs have equal hashes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

"""JinaBERT v2 (Guenther et al., 2023): BERT with ALiBi in place of positions, and gates.

Saved by the model's own code as `bert`, with `position_embedding_type` "alibi".
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import bert
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, fused, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *(rule for rule in bert.RULES if "feed_forward" not in rule.name),
    *fused(
        "encoder.layer.{i}.mlp.gated_layers",
        "layer.{i}.feed_forward.gate",
        "layer.{i}.feed_forward.up",
    ),
    *linear("encoder.layer.{i}.mlp.wo", "layer.{i}.feed_forward.down"),
    *norm("encoder.layer.{i}.mlp.layernorm", "layer.{i}.feed_forward.norm"),
)
ACTIVATIONS = {"geglu": "gelu", "reglu": "relu"}


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a JinaBertConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_code(raw, "JinaBert")
    kind = raw.get("feed_forward_type", "original")
    if kind not in ACTIVATIONS:
        raise read.refused("feed_forward_type", kind, " or ".join(map(repr, ACTIVATIONS)))
    seen_to = {"position_embedding_type": None, "auto_map": None, "hidden_act": ACTIVATIONS[kind]}
    return bert.config({**raw, **seen_to})._replace(
        family="jina-bert",
        position_table=False,
        alibi=True,
        gated=True,
        up_bias=False,
    )


JINA_BERT = Family(
    ("bert",),
    RULES,
    config,
    applies=lambda raw: raw.get("position_embedding_type") == "alibi",
    prefixes=("bert.",),
    ignored=bert.IGNORED,
)

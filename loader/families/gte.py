"""GTE (Zhang et al., 2024): BERT with rotary positions and gates, long and multilingual.

As transformers 5 saves it (`gte`), and as the model's own code on the hub does (`new`).
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import nomic
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, fused, linear, norm
from pageformer.udfs.config import Config

HUB_RULES = (
    *nomic.EMBEDDINGS,
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *fused("encoder.layer.{i}.attention.qkv_proj", *nomic.ATTENTION),
    *linear("encoder.layer.{i}.attention.o_proj", "layer.{i}.attention.output"),
    *norm("encoder.layer.{i}.attn_ln", "layer.{i}.attention.norm"),
    *fused(
        "encoder.layer.{i}.mlp.up_gate_proj",
        "layer.{i}.feed_forward.up",
        "layer.{i}.feed_forward.gate",
    ),
    *linear("encoder.layer.{i}.mlp.down_proj", "layer.{i}.feed_forward.down"),
    *norm("encoder.layer.{i}.mlp_ln", "layer.{i}.feed_forward.norm"),
)
IGNORED = (*nomic.IGNORED, "lm_head.*", "embeddings.position_ids")
HUB_HARMLESS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("position_embedding_type", ("rope", "absolute", None)),
    ("layer_norm_type", ("layer_norm",)),
    ("logn_attention_scale", (False,)),
    ("logn_attention_clip1", (False,)),
)
DEFAULTS = {"hidden_act": "gelu", "vocab_size": 250048, "max_position_embeddings": 8192}


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a GteConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw, known=("auto_map", "position_embedding_type"))
    read.refuse_other_code(raw, "New")
    for key, harmless in HUB_HARMLESS:
        read.choice(raw, key, *harmless)
    raw = {**DEFAULTS, **raw}
    hidden = read.integer(raw, "hidden_size", 768)
    read.refuse_other_embedding_size(raw, hidden)
    heads = read.rotary_heads(raw, "num_attention_heads", 12, hidden)
    factor = ntk_factor(raw)
    return Config(
        family=str(raw["model_type"]),
        hidden=hidden,
        layers=read.integer(raw, "num_hidden_layers", 12),
        heads=heads,
        intermediate=read.integer(raw, "intermediate_size", 3072),
        activation=read.activation(raw, "hidden_act", "gelu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-12),
        vocabulary=read.integer(raw, "vocab_size", 250048),
        positions=read.integer(raw, "max_position_embeddings", 8192),
        token_types=read.integer(raw, "type_vocab_size", 1, minimum=0),
        position_table=False,
        gated=True,
        up_bias=False,
        rotary_theta=factor * read.rotary_theta(raw, 160000.0, "rope_theta", scaled=True),
        rotary_divisor=factor ** (2 * heads / hidden),
    )


def ntk_factor(raw: Mapping[str, Any]) -> float:
    """Read by how much rotary positions are stretched: the base times it, too (NTK scaling)."""
    scaling = raw.get("rope_scaling")
    if scaling is None:
        return 1.0
    if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None:
        raise read.refused("rope_scaling", scaling, "null or of type 'ntk'")
    return read.number(scaling, "factor", 1.0)


GTE = Family(
    ("gte", "new"),
    nomic.RULES,
    config,
    other_rules=HUB_RULES,
    prefixes=("gte.", "new."),
    ignored=IGNORED,
)

"""DeBERTa v2 and v3 (He et al., 2021): attention to content and to distances apart."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import bert
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *(rule for rule in bert.RULES if ".self." not in rule.pattern),
    *embedding("encoder.rel_embeddings", "relative_embeddings"),
    *norm("encoder.LayerNorm", "relative_embeddings.norm"),
    *linear("encoder.layer.{i}.attention.self.query_proj", "layer.{i}.attention.query"),
    *linear("encoder.layer.{i}.attention.self.key_proj", "layer.{i}.attention.key"),
    *linear("encoder.layer.{i}.attention.self.value_proj", "layer.{i}.attention.value"),
)
# Checkpoints keep positions that the model does not add, and heads of its training.
IGNORED = (
    *bert.IGNORED,
    "embeddings.position_embeddings.weight",
    "lm_predictions.*",
    "mask_predictions.*",
)
DEFAULTS = {
    "vocab_size": 128100,
    "hidden_size": 1536,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
    "intermediate_size": 6144,
    "layer_norm_eps": 1e-7,
}


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a DebertaV2Config; raise InvalidCheckpoint for what this pass does not compute."""
    plain = bert.config({**DEFAULTS, **raw, "type_vocab_size": raw.get("type_vocab_size") or 1})
    read.choice({"relative_attention": False, **raw}, "relative_attention", True)
    read.choice({"share_att_key": False, **raw}, "share_att_key", True)
    read.choice({"conv_kernel_size": 0, **raw}, "conv_kernel_size", 0, None)
    buckets = read.integer(raw, "position_buckets", -1, minimum=-1)
    reach = read.integer(raw, "max_relative_positions", -1, minimum=-1)
    reach = reach if reach > 0 else plain.positions
    normed = str(raw.get("norm_rel_ebd", "none")).lower().split("|")
    return plain._replace(
        family="deberta-v2",
        token_types=read.integer(raw, "type_vocab_size", 0, minimum=0),
        position_table=read.flag(raw, "position_biased_input", True),
        relative_span=buckets if buckets > 0 else reach,
        relative_reach=reach if buckets > 0 else 0,
        relative_norm="layer_norm" in [kind.strip() for kind in normed],
        relative_terms=relative_terms(raw),
    )


def relative_terms(raw: Mapping[str, Any]) -> list[str]:
    """Read what is added to scores: content to position, position to content."""
    named = raw.get("pos_att_type") or []
    terms = [t.strip() for t in (named.lower().split("|") if isinstance(named, str) else named)]
    if {*terms} - {"c2p", "p2c"}:
        raise read.refused("pos_att_type", named, "c2p, p2c or both")
    return sorted({*terms})


DEBERTA = Family(("deberta-v2",), RULES, config, prefixes=("deberta.",), ignored=IGNORED)

"""MPNet (Song et al., 2020): a bias by relative position, one table for all layers and heads.

Positions count as in RoBERTa, always from padding id 1, whatever `pad_token_id` says.
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *embedding("embeddings.word_embeddings", "embeddings.word"),
    *embedding("embeddings.position_embeddings", "embeddings.position"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *embedding("encoder.relative_attention_bias", "relative_attention_bias"),
    *linear("encoder.layer.{i}.attention.attn.q", "layer.{i}.attention.query"),
    *linear("encoder.layer.{i}.attention.attn.k", "layer.{i}.attention.key"),
    *linear("encoder.layer.{i}.attention.attn.v", "layer.{i}.attention.value"),
    *linear("encoder.layer.{i}.attention.attn.o", "layer.{i}.attention.output"),
    *norm("encoder.layer.{i}.attention.LayerNorm", "layer.{i}.attention.norm"),
    *linear("encoder.layer.{i}.intermediate.dense", "layer.{i}.feed_forward.up"),
    *linear("encoder.layer.{i}.output.dense", "layer.{i}.feed_forward.down"),
    *norm("encoder.layer.{i}.output.LayerNorm", "layer.{i}.feed_forward.norm"),
)

IGNORED = ("pooler.*", "lm_head.*", "classifier.*", "qa_outputs.*", "embeddings.position_ids")

PADDING_ID = 1  # fixed in the model, not in its config
BUCKETS = 32  # likewise: the config's number only sizes the table


def config(raw: Mapping[str, Any]) -> Config:
    """Translate an MPNetConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw)
    hidden = read.integer(raw, "hidden_size", 768)
    read.refuse_other_embedding_size(raw, hidden)
    buckets = read.integer(raw, "relative_attention_num_buckets", BUCKETS)
    if buckets != BUCKETS:
        raise read.refused("relative_attention_num_buckets", buckets, str(BUCKETS))
    return Config(
        family="mpnet",
        hidden=hidden,
        layers=read.integer(raw, "num_hidden_layers", 12),
        heads=read.heads(raw, "num_attention_heads", 12, hidden),
        intermediate=read.integer(raw, "intermediate_size", 3072),
        activation=read.activation(raw, "hidden_act", "gelu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-12),
        vocabulary=read.integer(raw, "vocab_size", 30527),
        positions=read.integer(raw, "max_position_embeddings", 512, minimum=PADDING_ID + 2),
        padding_id=PADDING_ID,
        relative_buckets=buckets,
    )


MPNET = Family(("mpnet",), RULES, config, prefixes=("mpnet.",), ignored=IGNORED)

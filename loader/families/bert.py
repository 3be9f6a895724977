"""BERT (Devlin et al., 2019), MiniLM and whatever else saves itself as `bert`."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *embedding("embeddings.word_embeddings", "embeddings.word"),
    *embedding("embeddings.position_embeddings", "embeddings.position"),
    *embedding("embeddings.token_type_embeddings", "embeddings.token_type"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *linear("encoder.layer.{i}.attention.self.query", "layer.{i}.attention.query"),
    *linear("encoder.layer.{i}.attention.self.key", "layer.{i}.attention.key"),
    *linear("encoder.layer.{i}.attention.self.value", "layer.{i}.attention.value"),
    *linear("encoder.layer.{i}.attention.output.dense", "layer.{i}.attention.output"),
    *norm("encoder.layer.{i}.attention.output.LayerNorm", "layer.{i}.attention.norm"),
    *linear("encoder.layer.{i}.intermediate.dense", "layer.{i}.feed_forward.up"),
    *linear("encoder.layer.{i}.output.dense", "layer.{i}.feed_forward.down"),
    *norm("encoder.layer.{i}.output.LayerNorm", "layer.{i}.feed_forward.norm"),
)

# What stands on the encoder, and buffers that older versions saved.
IGNORED = (
    "pooler.*",
    "cls.*",
    "classifier.*",
    "qa_outputs.*",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
)


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a BertConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw)
    hidden = read.integer(raw, "hidden_size", 768)
    read.refuse_other_embedding_size(raw, hidden)
    return Config(
        family="bert",
        hidden=hidden,
        layers=read.integer(raw, "num_hidden_layers", 12),
        heads=read.heads(raw, "num_attention_heads", 12, hidden),
        intermediate=read.integer(raw, "intermediate_size", 3072),
        activation=read.activation(raw, "hidden_act", "gelu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-12),
        vocabulary=read.integer(raw, "vocab_size", 30522),
        positions=read.integer(raw, "max_position_embeddings", 512),
        token_types=read.integer(raw, "type_vocab_size", 2),
    )


BERT = Family(("bert",), RULES, config, prefixes=("bert.",), ignored=IGNORED)

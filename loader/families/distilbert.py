"""DistilBERT (Sanh et al., 2019): BERT without token types, under names of its own."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *embedding("embeddings.word_embeddings", "embeddings.word"),
    *embedding("embeddings.position_embeddings", "embeddings.position"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *linear("transformer.layer.{i}.attention.q_lin", "layer.{i}.attention.query"),
    *linear("transformer.layer.{i}.attention.k_lin", "layer.{i}.attention.key"),
    *linear("transformer.layer.{i}.attention.v_lin", "layer.{i}.attention.value"),
    *linear("transformer.layer.{i}.attention.out_lin", "layer.{i}.attention.output"),
    *norm("transformer.layer.{i}.sa_layer_norm", "layer.{i}.attention.norm"),
    *linear("transformer.layer.{i}.ffn.lin1", "layer.{i}.feed_forward.up"),
    *linear("transformer.layer.{i}.ffn.lin2", "layer.{i}.feed_forward.down"),
    *norm("transformer.layer.{i}.output_layer_norm", "layer.{i}.feed_forward.norm"),
)

IGNORED = (
    "vocab_*",
    "classifier.*",
    "pre_classifier.*",
    "qa_outputs.*",
    "embeddings.position_ids",
)

NORM_EPS = 1e-12  # fixed in the model, not in its config


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a DistilBertConfig; raise InvalidCheckpoint for what this pass does not compute.

    Sinusoidal positions need nothing: they are saved as a position table like any other.
    """
    read.refuse_other_models(raw)
    hidden = read.integer(raw, "dim", 768)
    read.refuse_other_embedding_size(raw, hidden)
    return Config(
        family="distilbert",
        hidden=hidden,
        layers=read.integer(raw, "n_layers", 6),
        heads=read.heads(raw, "n_heads", 12, hidden),
        intermediate=read.integer(raw, "hidden_dim", 3072),
        activation=read.activation(raw, "activation", "gelu"),
        norm_eps=NORM_EPS,
        vocabulary=read.integer(raw, "vocab_size", 30522),
        positions=read.integer(raw, "max_position_embeddings", 512),
    )


DISTILBERT = Family(("distilbert",), RULES, config, prefixes=("distilbert.",), ignored=IGNORED)

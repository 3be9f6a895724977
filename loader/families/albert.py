"""ALBERT (Lan et al., 2020): narrow embeddings, and layers that share their weights."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import bert
from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, linear, norm
from pageformer.udfs.config import Config

LAYER = "encoder.albert_layer_groups.{i}.albert_layers.0"
RULES = (
    *embedding("embeddings.word_embeddings", "embeddings.word"),
    *embedding("embeddings.position_embeddings", "embeddings.position"),
    *embedding("embeddings.token_type_embeddings", "embeddings.token_type"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *linear("encoder.embedding_hidden_mapping_in", "embeddings.projection"),
    *linear(f"{LAYER}.attention.query", "layer.{i}.attention.query"),
    *linear(f"{LAYER}.attention.key", "layer.{i}.attention.key"),
    *linear(f"{LAYER}.attention.value", "layer.{i}.attention.value"),
    *linear(f"{LAYER}.attention.dense", "layer.{i}.attention.output"),
    *norm(f"{LAYER}.attention.LayerNorm", "layer.{i}.attention.norm"),
    *linear(f"{LAYER}.ffn", "layer.{i}.feed_forward.up"),
    *linear(f"{LAYER}.ffn_output", "layer.{i}.feed_forward.down"),
    *norm(f"{LAYER}.full_layer_layer_norm", "layer.{i}.feed_forward.norm"),
)
IGNORED = (*bert.IGNORED, "predictions.*", "sop_classifier.*")
DEFAULTS = {
    "vocab_size": 30000,
    "hidden_size": 4096,
    "num_attention_heads": 64,
    "intermediate_size": 16384,
    "hidden_act": "gelu_new",
}


def config(raw: Mapping[str, Any]) -> Config:
    """Translate an AlbertConfig; raise InvalidCheckpoint for what this pass does not compute."""
    width = read.integer(raw, "embedding_size", 128)
    plain = bert.config({**DEFAULTS, **raw, "embedding_size": None})
    groups = read.integer(raw, "num_hidden_groups", 1)
    if groups > plain.layers:
        raise read.refused("num_hidden_groups", groups, f"at most {plain.layers}, the layers")
    read.choice(raw, "inner_group_num", 1)
    order = [int(i / (plain.layers / groups)) for i in range(plain.layers)]
    return plain._replace(family="albert", embedding_size=width, layer_order=order)


ALBERT = Family(("albert",), RULES, config, prefixes=("albert.",), ignored=IGNORED)

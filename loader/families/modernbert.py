"""ModernBERT (Warner et al., 2024): pre-norm, rotary positions, gates, and mostly local layers."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, embedding, fused, linear, norm
from pageformer.udfs.config import Config

ATTENTION = tuple(f"layer.{{i}}.attention.{part}" for part in ("query", "key", "value"))
RULES = (
    *embedding("embeddings.tok_embeddings", "embeddings.word"),
    *norm("embeddings.norm", "embeddings.norm"),
    *norm("layers.{i}.attn_norm", "layer.{i}.attention.norm"),
    *fused("layers.{i}.attn.Wqkv", *ATTENTION),
    *linear("layers.{i}.attn.Wo", "layer.{i}.attention.output"),
    *norm("layers.{i}.mlp_norm", "layer.{i}.feed_forward.norm"),
    *fused("layers.{i}.mlp.Wi", "layer.{i}.feed_forward.gate", "layer.{i}.feed_forward.up"),
    *linear("layers.{i}.mlp.Wo", "layer.{i}.feed_forward.down"),
    *norm("final_norm", "final.norm"),
)
IGNORED = ("head.*", "decoder.*", "classifier.*")


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a ModernBertConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw)
    hidden = read.integer(raw, "hidden_size", 768)
    read.refuse_other_embedding_size(raw, hidden)
    layers = read.integer(raw, "num_hidden_layers", 22)
    heads = read.rotary_heads(raw, "num_attention_heads", 12, hidden)
    mlp_bias = read.flag(raw, "mlp_bias", False)
    return Config(
        family="modernbert",
        hidden=hidden,
        layers=layers,
        heads=heads,
        intermediate=read.integer(raw, "intermediate_size", 1152),
        activation=read.activation(raw, "hidden_activation", "gelu"),
        norm_eps=read.positive(raw, "norm_eps", 1e-5),
        norm_place="pre",
        vocabulary=read.integer(raw, "vocab_size", 50368),
        positions=read.integer(raw, "max_position_embeddings", 8192),
        position_table=False,
        gated=True,
        attention_bias=read.flag(raw, "attention_bias", False),
        up_bias=mlp_bias,
        down_bias=mlp_bias,
        norm_bias=read.flag(raw, "norm_bias", False),
        first_norm=False,
        final_norm=True,
        rotary_theta=read.rotary_theta(raw, 160000.0, "global_rope_theta", "full_attention"),
        local_layers=local_layers(raw, layers),
        local_theta=read.rotary_theta(raw, 10000.0, "local_rope_theta", "sliding_attention"),
        window=read.integer(raw, "local_attention", 128),
    )


def local_layers(raw: Mapping[str, Any], layers: int) -> list[int]:
    """Tell which layers see a window only: those named so, or all but every so many."""
    every = read.integer(raw, "global_attn_every_n_layers", 3)
    kinds = raw.get("layer_types")
    if kinds is None:
        return [i for i in range(layers) if i % every]
    if len(kinds) != layers or {*kinds} - {"full_attention", "sliding_attention"}:
        raise read.refused("layer_types", kinds, f"{layers} of full_ or sliding_attention")
    return [i for i, kind in enumerate(kinds) if kind == "sliding_attention"]


MODERNBERT = Family(("modernbert",), RULES, config, prefixes=("model.",), ignored=IGNORED)

"""A bare pre-norm encoder that takes a tensor: the model of the encoder paper.

Its files are ours, not a library's: `docs/encoder-family.md` says how to write them.
"""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, linear, norm
from pageformer.udfs.config import Config

RULES = (
    *norm("layers.{i}.norm1", "layer.{i}.attention.norm"),
    *linear("layers.{i}.attention.query", "layer.{i}.attention.query"),
    *linear("layers.{i}.attention.key", "layer.{i}.attention.key"),
    *linear("layers.{i}.attention.value", "layer.{i}.attention.value"),
    *linear("layers.{i}.attention.output", "layer.{i}.attention.output"),
    *norm("layers.{i}.norm2", "layer.{i}.feed_forward.norm"),
    *linear("layers.{i}.feed_forward.up", "layer.{i}.feed_forward.up"),
    *linear("layers.{i}.feed_forward.down", "layer.{i}.feed_forward.down"),
)


def config(raw: Mapping[str, Any]) -> Config:
    """Translate the config that `docs/encoder-family.md` describes."""
    read.refuse_other_models(raw)
    hidden = read.required_integer(raw, "hidden_size")
    intermediate = read.integer(raw, "intermediate_size", 0, minimum=0)
    final_activation = read.flag(raw, "final_activation", False)
    if final_activation and not intermediate:
        raise read.refused("final_activation", True, "false without a feed-forward part")
    return Config(
        family="encoder",
        hidden=hidden,
        layers=read.required_integer(raw, "num_hidden_layers"),
        heads=read.heads(raw, "num_attention_heads", 1, hidden),
        intermediate=intermediate,
        activation=read.activation(raw, "hidden_act", "relu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-5),
        norm_place="pre",
        final_activation=final_activation,
    )


ENCODER = Family(("encoder",), RULES, config, optional=("layer.*.feed_forward.norm.*",))

"""ViT (Dosovitskiy et al., 2021): an image cut into patches, a class token, pre-norm layers."""

from collections.abc import Mapping
from typing import Any

from pageformer.loader.families import raw_config as read
from pageformer.loader.families.family import Family, Rule, linear, norm
from pageformer.udfs.config import Config

RULES = (
    Rule("embeddings.cls_token", "embeddings.class", "vector"),
    Rule("embeddings.position_embeddings", "embeddings.position", "embedding"),
    *linear("embeddings.patch_embeddings.projection", "embeddings.patch"),
    *norm("encoder.layer.{i}.layernorm_before", "layer.{i}.attention.norm"),
    *linear("encoder.layer.{i}.attention.attention.query", "layer.{i}.attention.query"),
    *linear("encoder.layer.{i}.attention.attention.key", "layer.{i}.attention.key"),
    *linear("encoder.layer.{i}.attention.attention.value", "layer.{i}.attention.value"),
    *linear("encoder.layer.{i}.attention.output.dense", "layer.{i}.attention.output"),
    *norm("encoder.layer.{i}.layernorm_after", "layer.{i}.feed_forward.norm"),
    *linear("encoder.layer.{i}.intermediate.dense", "layer.{i}.feed_forward.up"),
    *linear("encoder.layer.{i}.output.dense", "layer.{i}.feed_forward.down"),
    *norm("layernorm", "final.norm"),
)
IGNORED = ("pooler.*", "classifier.*", "embeddings.mask_token", "decoder.*")
CHANNELS = 3  # an image is read as red, green and blue


def config(raw: Mapping[str, Any]) -> Config:
    """Translate a ViTConfig; raise InvalidCheckpoint for what this pass does not compute."""
    read.refuse_other_models(raw)
    read.choice(raw, "num_channels", CHANNELS)
    hidden = read.integer(raw, "hidden_size", 768)
    height, width = read.height_and_width(raw, "image_size", 224)
    patch = read.height_and_width(raw, "patch_size", 16)
    patches = (height // patch[0]) * (width // patch[1])
    if not patches:
        raise read.refused("patch_size", raw.get("patch_size", 16), "less than image_size")
    return Config(
        family="vit",
        hidden=hidden,
        layers=read.integer(raw, "num_hidden_layers", 12),
        heads=read.heads(raw, "num_attention_heads", 12, hidden),
        intermediate=read.integer(raw, "intermediate_size", 3072),
        activation=read.activation(raw, "hidden_act", "gelu"),
        norm_eps=read.positive(raw, "layer_norm_eps", 1e-12),
        norm_place="pre",
        positions=patches + 1,
        pooling="cls",
        query_bias=read.flag(raw, "qkv_bias", True),
        final_norm=True,
        image={"channels": CHANNELS, "size": [height, width], "patch": patch},
    )


VIT = Family(("vit",), RULES, config, prefixes=("vit.",), ignored=IGNORED)

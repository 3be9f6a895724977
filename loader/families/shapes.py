"""The shape of every tensor of a version, as stored, from its config alone."""

from collections.abc import Iterator
from math import prod

from pageformer.udfs.config import Config

Shape = tuple[int, ...]


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Name each tensor's stored shape: `[in, out]` for a linear, `[rows, hidden]` for a table.

    Optional tensors (the unused norm of a model without feed-forward part) are among them.
    """
    shapes = dict(_embeddings(config))
    for layer in range(config.stored_layers):
        shapes.update((f"layer.{layer}.{name}", shape) for name, shape in _layer(config, layer))
    if config.final_norm:
        shapes.update(_norm("final", config))
    shapes.update(_modules(config))
    shapes.update(_head(config))
    return shapes


def _head(config: Config) -> Iterator[tuple[str, Shape]]:
    inputs = config.hidden
    for k, step in enumerate(config.head.get("steps", ())):
        yield from _linear(f"head.{k}", inputs, step["width"], step["bias"])
        if step["norm"]:
            yield from _norm(f"head.{k}", config, step["width"])
        inputs = step["width"]
    if config.head.get("task") == "words":
        yield "head.words.bias", (config.vocabulary,)


def _modules(config: Config) -> Iterator[tuple[str, Shape]]:
    """Name what stands behind pooling, each module's input being the output of the last."""
    inputs = config.pooled
    for i, module in enumerate(config.modules):
        width = module.get("width", inputs)
        if module["kind"] == "dense":
            yield f"module.{i}.weight", (inputs, width)
            if module.get("projected_residual"):
                yield f"module.{i}.residual.weight", (inputs, width)
        elif module["kind"] == "layer_norm":
            yield f"module.{i}.weight", (inputs,)
        if module.get("bias") or module["kind"] == "layer_norm":
            yield f"module.{i}.bias", (width,)
        inputs = width


def _image_embeddings(config: Config) -> Iterator[tuple[str, Shape]]:
    pixels = config.image["channels"] * prod(config.image["patch"])
    yield "embeddings.class", (config.hidden,)
    yield "embeddings.position", (config.positions, config.hidden)
    yield from _linear("embeddings.patch", pixels, config.hidden)


def _embeddings(config: Config) -> Iterator[tuple[str, Shape]]:
    if config.image:
        yield from _image_embeddings(config)
    width = config.embedding_size or config.hidden
    if config.vocabulary:
        yield "embeddings.word", (config.vocabulary, width)
        yield from _norm("embeddings", config, width)
    if config.vocabulary and config.position_table:
        yield "embeddings.position", (config.positions, width)
    if config.token_types:
        yield "embeddings.token_type", (config.token_types, width)
    if config.embedding_size:
        yield from _linear("embeddings.projection", width, config.hidden)
    if config.relative_buckets:
        yield "relative_attention_bias", (config.relative_buckets, config.heads)
    if config.relative_span:
        yield "relative_embeddings", (2 * config.relative_span, config.hidden)
    if config.relative_norm:
        yield from _norm("relative_embeddings", config)


def _layer(config: Config, layer: int) -> Iterator[tuple[str, Shape]]:
    hidden, intermediate = config.hidden, config.intermediate
    for part in ("query", "key", "value"):
        biased = config.attention_bias and config.query_bias
        yield from _linear(f"attention.{part}", hidden, hidden, biased)
    yield from _linear("attention.output", hidden, hidden, config.attention_bias)
    if layer or config.first_norm:
        yield from _norm("attention", config)
    if config.gated:
        yield from _linear("feed_forward.gate", hidden, intermediate, config.up_bias)
    if intermediate:
        yield from _linear("feed_forward.up", hidden, intermediate, config.up_bias)
        yield from _linear("feed_forward.down", intermediate, hidden, config.down_bias)
    yield from _norm("feed_forward", config)


def _linear(name: str, inputs: int, outputs: int, bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (inputs, outputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, config: Config, width: int = 0) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.norm.weight", (width or config.hidden,)
    if config.norm_bias:
        yield f"{name}.norm.bias", (width or config.hidden,)

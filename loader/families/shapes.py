"""The shape of every tensor of a version, as stored, from its config alone."""

from collections.abc import Iterator

from pageformer.udfs.config import Config

Shape = tuple[int, ...]


def expected_shapes(config: Config) -> dict[str, Shape]:
    """Name each tensor's stored shape: `[in, out]` for a linear, `[rows, hidden]` for a table.

    Optional tensors (the unused norm of a model without feed-forward part) are among them.
    """
    shapes = dict(_embeddings(config))
    for layer in range(config.layers):
        shapes.update((f"layer.{layer}.{name}", shape) for name, shape in _layer(config))
    shapes.update(_modules(config))
    return shapes


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


def _embeddings(config: Config) -> Iterator[tuple[str, Shape]]:
    if config.vocabulary:
        yield "embeddings.word", (config.vocabulary, config.hidden)
        yield "embeddings.position", (config.positions, config.hidden)
        yield from _norm("embeddings", config.hidden)
    if config.token_types:
        yield "embeddings.token_type", (config.token_types, config.hidden)
    if config.relative_buckets:
        yield "relative_attention_bias", (config.relative_buckets, config.heads)


def _layer(config: Config) -> Iterator[tuple[str, Shape]]:
    hidden, intermediate = config.hidden, config.intermediate
    for part in ("query", "key", "value", "output"):
        yield from _linear(f"attention.{part}", hidden, hidden)
    yield from _norm("attention", hidden)
    if intermediate:
        yield from _linear("feed_forward.up", hidden, intermediate)
        yield from _linear("feed_forward.down", intermediate, hidden)
    yield from _norm("feed_forward", hidden)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (inputs, outputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.norm.weight", (hidden,)
    yield f"{name}.norm.bias", (hidden,)

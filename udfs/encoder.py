"""The forward pass, written once against the operators.

Post-norm (Vaswani et al. 2017; BERT) and pre-norm (the netsDB encoder) layers, over a padding-free
batch: one `[tokens, hidden]` matrix and the offsets of its sequences.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pageformer.udfs.blocks import Array
from pageformer.udfs.config import Config
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.layout import MAX_DISTANCE
from pageformer.udfs.model import Layer, Model
from pageformer.udfs.operators import Norm

Ids = npt.NDArray[np.intp]


class Batch(NamedTuple):
    """Hold token ids of several sequences, one after another, and where each begins and ends."""

    ids: Ids  # [tokens]
    offsets: Sequence[int]  # [sequences + 1]


def join(sequences: Sequence[Sequence[int]]) -> Batch:
    """Put sequences of token ids one after another."""
    offsets = np.cumsum([0, *map(len, sequences)])
    ids = np.fromiter((i for ids in sequences for i in ids), np.intp, offsets[-1])
    return Batch(ids, offsets.tolist())


def encode(model: Model, batch: Batch, pulse: Pulse, skip: int = 0) -> Array:
    """Compute one vector per sequence, before `normalized`.  # ids [n] -> [sequences, width]

    skip: so many tokens of each sequence are not pooled.
    """
    states = token_states(model, batch, pulse)
    modes = model.config.pooling.split("+")
    pooled = [model.operators.pool(states, batch.offsets, mode, skip) for mode in modes]
    return modules(model, pooled[0] if len(pooled) == 1 else model.operators.beside(pooled))


def modules(model: Model, x: Array) -> Array:
    """Run what sentence-transformers puts behind pooling.  # [sequences, pooled] -> [s, width]"""
    for i, module in enumerate(model.config.modules):
        if module["kind"] == "normalize":
            x = model.operators.normalize(x)
        elif module["kind"] == "layer_norm":
            x = model.operators.layer_norm(x, model.norm(f"module.{i}", module["eps"]))
        else:
            x = dense(model, f"module.{i}", module, x)
    return x


def dense(model: Model, name: str, module: Mapping[str, Any], x: Array) -> Array:
    """Compute activation(x W + bias), plus x or a projection of it.  # [n, k] -> [n, m]"""
    plain, linear = model.linear(name), model.operators.linear
    residual = x if module.get("residual") else None
    if module.get("projected_residual"):
        residual = model.operators.matmul(x, model.matrices[f"{name}.residual.weight"])
    return linear(x, plain.weight, plain.bias, module["activation"], residual)


def token_states(model: Model, batch: Batch, pulse: Pulse) -> Array:
    """Compute the last hidden state of every token.  # ids [n] -> [n, hidden]"""
    return encoder(model, embeddings(model, batch), batch.offsets, pulse)


def embeddings(model: Model, batch: Batch) -> Array:
    """Add up what a token is, where it stands and its type (0); then normalise.  # [n, hidden]"""
    tables = model.matrices
    lookups = [
        (batch.ids, tables["embeddings.word"]),
        (positions(model.config, batch), tables["embeddings.position"]),
    ]
    if model.config.token_types:
        lookups.append((np.zeros_like(batch.ids), tables["embeddings.token_type"]))
    return model.operators.embed(lookups, model.embedding_norm)


def positions(config: Config, batch: Batch) -> Ids:
    """Count the positions of each sequence.  # [n]

    Families with a padding id count on from it and give the padding token itself that id.
    """
    position = np.empty_like(batch.ids)
    for start, stop in pairwise(batch.offsets):
        position[start:stop] = np.arange(stop - start)
        if config.padding_id is not None:
            is_token = batch.ids[start:stop] != config.padding_id
            position[start:stop] = np.cumsum(is_token) * is_token + config.padding_id
    return position


def encoder(model: Model, x: Array, offsets: Sequence[int], pulse: Pulse) -> Array:
    """Run the layers.  # [n, hidden] -> [n, hidden]"""
    layer_of = {"post": post_norm_layer, "pre": pre_norm_layer}[model.config.norm_place]
    bias = relative_bias(model, offsets)
    for layer in model.layers:
        pulse()
        x = layer_of(model, layer, x, offsets, bias)
    return x


def post_norm_layer(
    model: Model, layer: Layer, x: Array, offsets: Sequence[int], bias: Array | None
) -> Array:
    """Compute x = norm(x + attention(x)); x = norm(x + feed_forward(x))."""
    x = attention(model, layer, x, offsets, bias, residual=x, norm=layer.attention_norm)
    return feed_forward(model, layer, x, residual=x, norm=layer.feed_forward_norm)


def pre_norm_layer(
    model: Model, layer: Layer, x: Array, offsets: Sequence[int], bias: Array | None
) -> Array:
    """Compute x = x + attention(norm(x)); x = x + feed_forward(norm(x)) where there is one."""
    normed = model.operators.layer_norm(x, layer.attention_norm)
    x = attention(model, layer, normed, offsets, bias, residual=x)
    if layer.feed_forward_norm is None:
        return x
    normed = model.operators.layer_norm(x, layer.feed_forward_norm)
    return feed_forward(model, layer, normed, residual=x)


def attention(
    model: Model,
    layer: Layer,
    x: Array,
    offsets: Sequence[int],
    bias: Array | None,
    residual: Array,
    norm: Norm | None = None,
) -> Array:
    """Compute norm(residual + multi-head attention of x).  # [n, hidden] -> [n, hidden]"""
    linear = model.operators.linear
    q, k, v = (linear(x, p.weight, p.bias) for p in (layer.query, layer.key, layer.value))
    mixed = model.operators.attention(q, k, v, offsets, model.config.heads, bias=bias)
    return linear(mixed, layer.output.weight, layer.output.bias, residual=residual, norm=norm)


def feed_forward(
    model: Model, layer: Layer, x: Array, residual: Array, norm: Norm | None = None
) -> Array:
    """Compute norm(residual + down(activation(up(x)))).  # [n, hidden] -> [n, hidden]"""
    if layer.up is None or layer.down is None:
        return residual
    config, linear = model.config, model.operators.linear
    last = config.activation if config.final_activation else None
    h = linear(x, layer.up.weight, layer.up.bias, config.activation)  # [n, intermediate]
    return linear(h, layer.down.weight, layer.down.bias, last, residual, norm)


def relative_bias(model: Model, offsets: Sequence[int]) -> Array | None:
    """Look up MPNet's attention bias for every relative position.  # [heads, 2 longest - 1]"""
    if not model.config.relative_buckets:
        return None
    longest = max(stop - start for start, stop in pairwise(offsets))
    buckets = relative_buckets(np.arange(1 - longest, longest), model.config.relative_buckets)
    table = model.matrices["relative_attention_bias"]
    return model.operators.rows(buckets, table).T


def relative_buckets(distance: Ids, buckets: int) -> Ids:
    """Number relative positions j - i: exact when near, logarithmic when far (T5, MPNet).  # [m]"""
    half = buckets // 2
    exact = half // 2
    far = np.abs(distance)
    scale = np.log(np.maximum(far, 1) / exact, dtype=np.float32) / math.log(MAX_DISTANCE / exact)
    logarithmic = exact + (scale * (half - exact)).astype(np.intp)
    bucket: Ids = np.where(far < exact, far, np.minimum(logarithmic, half - 1))
    return bucket + half * (distance > 0)

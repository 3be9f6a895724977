"""The forward pass, written once against the operators.

Post-norm (Vaswani et al. 2017; BERT) and pre-norm (the netsDB encoder) layers, over a padding-free
batch: one `[tokens, hidden]` matrix and the offsets of its sequences.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pageformer.udfs.blocks import Array
from pageformer.udfs.config import Config
from pageformer.udfs.distances import Distances, distances
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.model import Layer, Linear, Model
from pageformer.udfs.tasks.edits import Norm
from pageformer.udfs.tasks.prefixes import attend_with_prefixes
from pageformer.udfs.tasks.relative import attend_to_distances

Ids = npt.NDArray[np.intp]


class Batch(NamedTuple):
    """Hold token ids of several sequences, one after another, and where each begins and ends."""

    ids: Ids  # [tokens]
    offsets: Sequence[int]  # [sequences + 1]
    types: Ids | None = None  # [tokens], all 0 by default
    first: Sequence[int] | None = None  # [sequences], where positions begin, all 0 by default


def join(sequences: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> Batch:
    """Put sequences of token ids one after another, and their tokens' types."""
    offsets = np.cumsum([0, *map(len, sequences)])
    ids = np.fromiter(chain.from_iterable(sequences), np.intp, offsets[-1])
    kinds = None if types is None else np.fromiter(chain.from_iterable(types), np.intp, len(ids))
    return Batch(ids, offsets.tolist(), kinds)


def encode(model: Model, batch: Batch, pulse: Pulse, skip: int = 0) -> Array:
    """Compute one vector per sequence, before `normalized`.  # ids [n] -> [sequences, width]

    skip: so many tokens of each sequence are not pooled.
    """
    return pooled(model, token_states(model, batch, pulse), batch.offsets, skip)


def encode_images(model: Model, patches: Array, pulse: Pulse) -> Array:
    """Compute one vector per image, before `normalized`.  # [images, patches, k] -> [i, width]"""
    return pooled(model, *image_states(model, patches, pulse))


def pooled(model: Model, states: Array, offsets: Sequence[int], skip: int = 0) -> Array:
    """Pool the states of each sequence, and run what stands behind.  # [n, hidden] -> [s, width]"""
    modes = model.config.pooling.split("+")
    pooled = [model.operators.pool(states, offsets, mode, skip) for mode in modes]
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


def token_states(model: Model, batch: Batch, pulse: Pulse, seen: int | None = None) -> Array:
    """Compute the last hidden state of every token.  # ids [n] -> [n, hidden]

    seen: so many tokens of each sequence are looked at, the others only look.
    """
    return encoder(model, embeddings(model, batch), batch.offsets, pulse, seen)


def image_states(model: Model, patches: Array, pulse: Pulse) -> tuple[Array, list[int]]:
    """Compute the last hidden state of every patch and class token, and where images begin."""
    images, count, _ = patches.shape
    offsets = list(range(0, images * (count + 1) + 1, count + 1))
    return encoder(model, patch_embeddings(model, patches), offsets, pulse), offsets


def patch_embeddings(model: Model, patches: Array) -> Array:
    """Project patches, put the class token first, add positions.  # [i, p, k] -> [i (p + 1), h]"""
    operators, hidden = model.operators, model.config.hidden
    images, count, pixels = patches.shape
    projection = model.linear("embeddings.patch")
    flat = operators.array(patches.reshape(-1, pixels))
    x = operators.xp.empty((images, count + 1, hidden), np.float32)
    x[:, 0] = model.vectors["embeddings.class"]
    x[:, 1:] = operators.linear(flat, projection.weight, projection.bias).reshape(images, count, -1)
    x += operators.rows(np.arange(count + 1), model.matrices["embeddings.position"])
    return x.reshape(-1, hidden)  # type: ignore[no-any-return]


def embeddings(model: Model, batch: Batch) -> Array:
    """Add up what a token is, where it stands and its type (0); then normalise.  # [n, hidden]"""
    tables = model.matrices
    lookups = {"embeddings.word": batch.ids}
    if model.config.position_table:
        lookups["embeddings.position"] = positions(model.config, batch)
    if model.config.token_types:
        types = np.zeros_like(batch.ids) if batch.types is None else batch.types
        lookups["embeddings.token_type"] = types
    if model.terms:
        x = edited_embeddings(model, lookups, batch.offsets)
    else:
        found = [(ids, tables[name]) for name, ids in lookups.items()]
        x = model.operators.embed(found, model.embedding_norm)
    if not model.config.embedding_size:
        return x
    return plain(model, model.linear("embeddings.projection"), x)


def edited_embeddings(model: Model, lookups: Mapping[str, Ids], offsets: Sequence[int]) -> Array:
    """Add up rows of tables as tasks have them, with their prompts in front.  # -> [n, w]"""
    operators = model.operators
    parts = []
    for name, ids in lookups.items():
        rows = operators.rows(ids, model.matrices[name])
        parts.append(operators.edited_rows(rows, ids, model.terms_at(name)))
    for start, stop, prompt in model.terms_at("embeddings"):
        for first in offsets[bisect_left(offsets, start) : bisect_left(offsets, stop)]:
            parts[0][first : first + len(prompt)] = prompt
    return normed(model, sum(parts[1:], parts[0]), model.embedding_norm, "embeddings.norm")


def positions(config: Config, batch: Batch) -> Ids:
    """Count the positions of each sequence.  # [n]

    Families with a padding id count on from it and give the padding token itself that id.
    """
    position = np.empty_like(batch.ids)
    for i, (start, stop) in enumerate(pairwise(batch.offsets)):
        first = batch.first[i] if batch.first else 0
        position[start:stop] = np.arange(first, first + stop - start)
        if config.padding_id is not None:
            is_token = batch.ids[start:stop] != config.padding_id
            counted = (np.cumsum(is_token) + first) * is_token
            position[start:stop] = counted + config.padding_id
    return position


def encoder(
    model: Model, x: Array, offsets: Sequence[int], pulse: Pulse, seen: int | None = None
) -> Array:
    """Run the layers.  # [n, hidden] -> [n, hidden]"""
    if (
        model.layers is not None
        and seen is None
        and all(first < last for first, last in pairwise(offsets))
        and model.layers.knows(model.terms)
    ):
        return model.layers.states(x, offsets, model.terms, pulse)
    layer_of = {"post": post_norm_layer, "pre": pre_norm_layer}[model.config.norm_place]
    near, far = (distances(model, offsets, local, seen) for local in (True, False))
    for i, number in enumerate(model.order):
        pulse()
        where = near if i in model.config.local_layers else far
        x = layer_of(model, model.layer(number), x, offsets, where)
    if model.config.final_norm:
        return normed(model, x, model.norm("final.norm"), "final.norm")
    return x


def post_norm_layer(
    model: Model, layer: Layer, x: Array, offsets: Sequence[int], where: Distances
) -> Array:
    """Compute x = norm(x + attention(x)); x = norm(x + feed_forward(x))."""
    x = attention(model, layer, x, offsets, where, residual=x, norm=layer.attention_norm)
    return feed_forward(model, layer, x, residual=x, norm=layer.feed_forward_norm)


def pre_norm_layer(
    model: Model, layer: Layer, x: Array, offsets: Sequence[int], where: Distances
) -> Array:
    """Compute x = x + attention(norm(x)); x = x + feed_forward(norm(x)) where there is one."""
    norm = layer.attention_norm
    h = x if norm is None else normed(model, x, norm, f"{layer.name}.attention.norm")
    x = attention(model, layer, h, offsets, where, residual=x)
    if layer.feed_forward_norm is None:
        return x
    h = normed(model, x, layer.feed_forward_norm, f"{layer.name}.feed_forward.norm")
    return feed_forward(model, layer, h, residual=x)


def normed(model: Model, x: Array, norm: Norm, site: str) -> Array:
    """Compute norm(x), as tasks have it at this site.  # [n, w] -> [n, w]"""
    terms = model.terms_at(site)
    if not terms:
        return model.operators.layer_norm(x, norm)
    return model.operators.add_norm(x, None, norm, terms)


def ended(
    model: Model,
    site: str,
    x: Array,
    last: Linear,
    residual: Array,
    norm: Norm | None,
    activation: str | None = None,
) -> Array:
    """Compute norm(activation(last(x)) + residual), as tasks have it at the end of a sub-layer."""
    linear, terms = model.operators.linear, model.terms_at(site)
    if not terms:
        return linear(x, last.weight, last.bias, activation, residual, norm, last.terms)
    y = linear(x, last.weight, last.bias, activation, terms=last.terms)
    return model.operators.add_norm(y, residual, norm, terms)


def attention(
    model: Model,
    layer: Layer,
    x: Array,
    offsets: Sequence[int],
    where: Distances,
    residual: Array,
    norm: Norm | None = None,
) -> Array:
    """Compute norm(residual + multi-head attention of x).  # [n, hidden] -> [n, hidden]"""
    q, k, v = (plain(model, p, x) for p in (layer.query, layer.key, layer.value))
    heads = model.config.heads
    if model.config.relative_span:
        mixed = attend_to_distances(model, layer, (q, k, v), offsets)
    elif prefixes := model.terms_at(layer.name):
        mixed = attend_with_prefixes(model.operators, (q, k, v), offsets, heads, where, prefixes)
    else:
        mixed = model.operators.attention(q, k, v, offsets, heads, *where)
    return ended(model, f"{layer.name}.attention", mixed, layer.output, residual, norm)


def feed_forward(
    model: Model, layer: Layer, x: Array, residual: Array, norm: Norm | None = None
) -> Array:
    """Compute norm(residual + down(activation(up(x)))).  # [n, hidden] -> [n, hidden]"""
    if layer.up is None or layer.down is None:
        return residual
    config = model.config
    last = config.activation if config.final_activation else None
    if layer.gate is None:
        h = plain(model, layer.up, x, config.activation)  # [n, intermediate]
    else:
        h = plain(model, layer.gate, x, config.activation)
        h *= plain(model, layer.up, x)
    return ended(model, f"{layer.name}.feed_forward", h, layer.down, residual, norm, last)


def plain(model: Model, map: Linear, x: Array, activation: str | None = None) -> Array:
    """Compute activation(x W + bias), as tasks have it.  # [n, k] -> [n, m]"""
    return model.operators.linear(x, map.weight, map.bias, activation, terms=map.terms)

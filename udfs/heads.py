"""What a head makes of an encoder's states: logits of labels, of tokens' labels, of words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pageformer.udfs import encoder
from pageformer.udfs.activations import sigmoid
from pageformer.udfs.blocks import Array
from pageformer.udfs.composed import micro_batches
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.model import Model
from pageformer.udfs.tokenizer import Tokens


def sequence_logits(model: Model, tokens: Sequence[Tokens], pulse: Pulse) -> Array:
    """Compute the logits of each sequence's labels, without padding.  # -> [sequences, labels]"""
    logits = np.empty((len(tokens), len(model.config.head["labels"])), np.float32)
    for members in micro_batches([len(t.ids) for t in tokens]):
        batch = join([tokens[i] for i in members])
        states = encoder.token_states(model, batch, pulse)
        pooled = model.operators.pool(states, batch.offsets, model.config.head["pooling"])
        logits[members] = model.operators.to_host(steps(model, pooled))
    return logits


def image_logits(model: Model, patches: Array, pulse: Pulse) -> Array:
    """Compute the logits of each image's labels.  # [images, patches, k] -> [images, labels]"""
    states, offsets = encoder.image_states(model, patches, pulse)
    pooled = model.operators.pool(states, offsets, model.config.head["pooling"])
    return model.operators.to_host(steps(model, pooled))


def token_logits(model: Model, tokens: Tokens, pulse: Pulse) -> Array:
    """Compute the logits of each token's labels.  # -> [tokens, labels]"""
    states = encoder.token_states(model, join([tokens]), pulse)
    return model.operators.to_host(steps(model, states))


def word_logits(
    model: Model, tokens: Tokens, pulse: Pulse, at: Sequence[int] | None = None
) -> Array:
    """Compute the logits of every word, at some tokens or all.  # -> [tokens, vocabulary]"""
    states = encoder.token_states(model, join([tokens]), pulse)
    chosen = steps(model, states if at is None else states[at])
    logits = model.operators.scores(chosen, model.matrices["embeddings.word"])
    logits += model.vectors["head.words.bias"]
    return model.operators.to_host(logits)


def join(tokens: Sequence[Tokens]) -> encoder.Batch:
    """Put sequences one after another, with their token types where there are pairs."""
    batch = encoder.join([t.ids for t in tokens])
    if all(t.types is None for t in tokens):
        return batch
    types = [np.array(t.types or [0] * len(t.ids), np.intp) for t in tokens]
    return batch._replace(types=np.concatenate(types))


def steps(model: Model, x: Array) -> Array:
    """Run the head's layers.  # [n, hidden] -> [n, width]"""
    for k, step in enumerate(model.config.head["steps"]):
        layer = model.linear(f"head.{k}")
        norm = model.norm(f"head.{k}.norm") if step["norm"] else None
        activation = step["activation"]
        x = model.operators.linear(x, layer.weight, layer.bias, activation, norm=norm)
    return x


def scored(logits: Array, how: str) -> Array:
    """Make scores of logits: softmax, sigmoid, or none.  # [n, m] -> [n, m]"""
    if how == "none":
        return logits
    if how == "sigmoid":
        return sigmoid(np, logits)
    exponentials: Any = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def sparse(logits: Array, pooling: str, activation: str, most: int) -> list[tuple[int, float]]:
    """Weigh words as SPLADE does (Formal et al. 2021), keeping the heaviest, by word.

    # [tokens, vocabulary]
    """
    weights = np.log1p(np.maximum(logits, 0))
    if activation == "log1p_relu":
        weights = np.log1p(weights)
    pooled = weights.max(axis=0) if pooling == "max" else weights.sum(axis=0)
    heaviest = np.argsort(-pooled, kind="stable")[:most]
    return [(int(i), float(pooled[i])) for i in np.sort(heaviest) if pooled[i] > 0]

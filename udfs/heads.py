"""What a head makes of an encoder's states: logits of labels, of tokens' labels, of words."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pageformer.errors import NotBuilt
from pageformer.udfs import encoder
from pageformer.udfs.activations import sigmoid
from pageformer.udfs.blocks import Array
from pageformer.udfs.composed import Tasks, batches
from pageformer.udfs.encoding import Pulse
from pageformer.udfs.model import Model
from pageformer.udfs.tasks.task_run import Run, Task, runs, tasked
from pageformer.udfs.tokenizer import Tokens


def sequence_logits(
    model: Model, tokens: Sequence[Tokens], pulse: Pulse, tasks: Tasks = None
) -> list[Array]:
    """Compute the logits of each sequence's labels, without padding.  # -> sequences x [labels]"""
    logits: dict[int, Array] = {}
    for members, own in batches(model, [len(t.ids) for t in tokens], tasks):
        edited, batch = tasked(model, *split([tokens[i] for i in members]), own)
        states = encoder.token_states(edited, batch, pulse)
        for run in runs(own):
            rows = run_logits(headed(model, run.task), states, batch.offsets, run)
            logits.update(zip(members[run.first : run.last], rows, strict=True))
    return [logits[i] for i in range(len(tokens))]


def run_logits(model: Model, states: Array, offsets: Sequence[int], run: Run) -> Array:
    """Compute the logits of neighbours that have the same head.  # -> [sequences, labels]"""
    own = offsets[run.first : run.last + 1]
    pooled = model.operators.pool(
        states[own[0] : own[-1]], [at - own[0] for at in own], model.config.head["pooling"]
    )
    return model.operators.to_host(steps(model, pooled))


def headed(model: Model, task: Task | None) -> Model:
    """Return the version with the head that answers for a task."""
    return model if task is None else task.head_model


def image_logits(model: Model, patches: Array, pulse: Pulse) -> Array:
    """Compute the logits of each image's labels.  # [images, patches, k] -> [images, labels]"""
    states, offsets = encoder.image_states(model, patches, pulse)
    pooled = model.operators.pool(states, offsets, model.config.head["pooling"])
    return model.operators.to_host(steps(model, pooled))


def token_logits(model: Model, tokens: Tokens, pulse: Pulse, task: Task | None = None) -> Array:
    """Compute the logits of each token's labels.  # -> [tokens, labels]"""
    states = states_of(model, tokens, pulse, task)
    return model.operators.to_host(steps(headed(model, task), states))


def word_logits(
    model: Model,
    tokens: Tokens,
    pulse: Pulse,
    at: Sequence[int] | None = None,
    task: Task | None = None,
) -> Array:
    """Compute the logits of every word, at some tokens or all.  # -> [tokens, vocabulary]"""
    if task is not None and "embeddings.word" in task.edits:
        raise NotBuilt("words are not predicted by a task that changes the words' embeddings")
    states = states_of(model, tokens, pulse, task)
    own = headed(model, task)
    chosen = steps(own, states if at is None else states[at])
    logits = model.operators.scores(chosen, model.matrices["embeddings.word"])
    logits += own.vectors["head.words.bias"]
    return model.operators.to_host(logits)


def states_of(model: Model, tokens: Tokens, pulse: Pulse, task: Task | None) -> Array:
    """Compute the last hidden states of one sequence, virtual tokens left out.  # [n, hidden]"""
    edited, batch = tasked(model, *split([tokens]), [task])
    return encoder.token_states(edited, batch, pulse)[-len(tokens.ids) :]


def split(tokens: Sequence[Tokens]) -> tuple[list[Sequence[int]], list[Sequence[int]] | None]:
    """Tell the ids of sequences, and their token types where there are pairs."""
    ids: list[Sequence[int]] = [t.ids for t in tokens]
    if all(t.types is None for t in tokens):
        return ids, None
    return ids, [t.types or [0] * len(t.ids) for t in tokens]


def steps(model: Model, x: Array) -> Array:
    """Run the head's layers.  # [n, hidden] -> [n, width]"""
    for k, step in enumerate(model.config.head["steps"]):
        layer = model.linear(f"head.{k}")
        x = encoder.plain(model, layer, x, step["activation"])
        if step["norm"]:
            x = encoder.normed(model, x, model.norm(f"head.{k}.norm"), f"head.{k}.norm")
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

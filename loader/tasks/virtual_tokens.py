"""Read prefixes and prompts: tokens that nobody typed, in every layer's attention or in front."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pageformer.errors import InvalidTask
from pageformer.loader.tasks.saved import numbers
from pageformer.loader.tasks.tuned import Tuned
from pageformer.udfs.distances import tells_distances

EMBEDDINGS = "prompt_embeddings"
SIZES = ("num_virtual_tokens", "token_dim", "num_attention_heads", "num_layers")
HARMLESS: Mapping[str, tuple[Any, ...]] = {"num_transformer_submodules": (1, None)}
PREFIX_KNOWN = (*SIZES, "encoder_hidden_size", "prefix_projection", "init_weights")
PROMPT_KNOWN = (
    *SIZES,
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "tokenizer_name_or_path",
    "tokenizer_kwargs",
)


def read_prefix(tuned: Tuned) -> int:
    """Read further keys and values of every layer, saved after any projection.

    Positions of tokens count on behind the prefix, as transformers does for a past.
    """
    tuned.check_keys(PREFIX_KNOWN, HARMLESS)
    config = tuned.edits.base.config
    if tells_distances(config):
        raise tuned.settings.refused(
            "peft_type",
            f"attention of family {config.family} tells how far tokens are apart, "
            "and a prefix stands nowhere",
        )
    tokens = tuned.settings.count("num_virtual_tokens")
    saved = tuned.take(EMBEDDINGS, tokens, 2 * config.layers * config.hidden)
    _check_room(tuned, tokens)
    both = np.split(numbers(saved), 2 * config.layers, axis=1)
    for layer in range(config.layers):
        keys, values = both[2 * layer : 2 * layer + 2]
        tuned.edits.put(f"layer.{layer}/prefix/keys", keys, saved.form)
        tuned.edits.put(f"layer.{layer}/prefix/values", values, saved.form)
    return tokens


def read_prompt(tuned: Tuned) -> int:
    """Read embeddings of tokens that stand in front."""
    tuned.check_keys(PROMPT_KNOWN, HARMLESS)
    config = tuned.edits.base.config
    tokens = tuned.settings.count("num_virtual_tokens")
    saved = tuned.take(EMBEDDINGS, tokens, config.embedding_size or config.hidden)
    _check_room(tuned, tokens)
    tuned.edits.put("embeddings/prompt/embeddings", numbers(saved), saved.form)
    return 0


def _check_room(tuned: Tuned, tokens: int) -> None:
    config = tuned.edits.base.config
    if tokens >= config.positions:
        raise InvalidTask(
            f"num_virtual_tokens = {tokens} leaves no room for text in {config.positions} positions"
        )

"""The tiny models of families that came after BERT's kin: their config and the shapes of tensors.

Sizes are odd on purpose: nothing may depend on a multiple of a block or of a vector.
"""

from collections.abc import Callable
from typing import Any

from tiny_weights import HEADS, HIDDEN, POSITIONS, WIDE, Shapes, bert_shapes, linear

Json = dict[str, Any]
NARROW = 40  # width of embeddings that are projected


def sizes(family: str, layers: int, vocabulary: int) -> Json:
    """Write the keys that most config classes have."""
    return {
        "model_type": family,
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 0,
    }


def electra(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe ELECTRA."""
    width = config.get("embedding_size", NARROW)
    return {**sizes("electra", layers, vocabulary), "embedding_size": width}, electra_shapes(
        layers, vocabulary, width
    )


def electra_shapes(layers: int, vocabulary: int, width: int) -> Shapes:
    """Name the tensors of ELECTRA."""
    for name, shape in bert_shapes(layers, vocabulary, 2):
        if name.startswith("embeddings."):
            yield name, (*shape[:-1], width)
        elif not name.startswith("pooler."):
            yield name, shape
    if width != HIDDEN:
        yield from linear("embeddings_project", HIDDEN, width)


FAMILIES: dict[str, Callable[[int, int, Json], tuple[Json, Shapes]]] = {"electra": electra}

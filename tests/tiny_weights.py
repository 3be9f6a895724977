"""The tensors of the tiny models: the names that transformers gives them, and random numbers."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Shapes = Iterator[tuple[str, tuple[int, ...]]]
Array = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

HIDDEN, HEADS, WIDE = 96, 3, 200
POSITIONS = 131
BUCKETS = 32


def model_tensors(
    family: str, layers: int, vocabulary: int, prefix: str, seed: int
) -> dict[str, Array]:
    """Draw every tensor of a model, the unused ones included."""
    shapes_of = {"distilbert": distilbert_shapes, "mpnet": mpnet_shapes}.get(family, bert_shapes)
    shapes = shapes_of(layers, vocabulary, 2 if family == "bert" else 1)
    return random_tensors(((prefix + name, shape) for name, shape in shapes), seed)


def random_tensors(shapes: Shapes, seed: int) -> dict[str, Array]:
    """Draw tensors in the order of their names."""
    draw = np.random.RandomState(seed)
    return {name: random_tensor(draw, name, shape) for name, shape in shapes}


def with_legacy(tensors: Mapping[str, Array]) -> dict[str, Array | Ids]:
    """Use the names of old checkpoints, and add a buffer and a head as they have."""
    plain = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    return {
        **plain,
        "bert.embeddings.position_ids": np.arange(POSITIONS).reshape(1, -1),
        "cls.predictions.bias": np.zeros(7, np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.ones(HIDDEN, np.float32),
    }


def random_tensor(draw: np.random.RandomState, name: str, shape: tuple[int, ...]) -> Array:
    """Draw a tensor: norm weights around 1, biases small, the rest wide enough to matter."""
    is_norm = "norm" in name.lower()
    middle = 1.0 if is_norm and name.endswith("weight") else 0.0
    is_table = "embeddings" in name or "relative_attention_bias" in name
    spread = 0.5 if is_table and not is_norm else 0.1
    return (middle + spread * draw.standard_normal(shape)).astype(np.float32)


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    """Name the tensors of a linear layer, as PyTorch keeps them."""
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def norm(name: str, size: int = HIDDEN) -> Shapes:
    """Name the tensors of a layer norm."""
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def bert_shapes(layers: int, vocabulary: int, types: int) -> Shapes:
    """Name the tensors of BERT and RoBERTa."""
    yield "embeddings.word_embeddings.weight", (vocabulary, HIDDEN)
    yield "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield "embeddings.token_type_embeddings.weight", (types, HIDDEN)
    yield from norm("embeddings.LayerNorm")
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            yield from linear(f"{at}.attention.self.{part}", HIDDEN, HIDDEN)
        yield from linear(f"{at}.attention.output.dense", HIDDEN, HIDDEN)
        yield from norm(f"{at}.attention.output.LayerNorm")
        yield from linear(f"{at}.intermediate.dense", WIDE, HIDDEN)
        yield from linear(f"{at}.output.dense", HIDDEN, WIDE)
        yield from norm(f"{at}.output.LayerNorm")
    yield from linear("pooler.dense", HIDDEN, HIDDEN)


def distilbert_shapes(layers: int, vocabulary: int, types: int) -> Shapes:
    """Name the tensors of DistilBERT."""
    yield "embeddings.word_embeddings.weight", (vocabulary, HIDDEN)
    yield "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield from norm("embeddings.LayerNorm")
    for layer in range(layers):
        at = f"transformer.layer.{layer}"
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            yield from linear(f"{at}.attention.{part}", HIDDEN, HIDDEN)
        yield from norm(f"{at}.sa_layer_norm")
        yield from linear(f"{at}.ffn.lin1", WIDE, HIDDEN)
        yield from linear(f"{at}.ffn.lin2", HIDDEN, WIDE)
        yield from norm(f"{at}.output_layer_norm")


def mpnet_shapes(layers: int, vocabulary: int, types: int) -> Shapes:
    """Name the tensors of MPNet."""
    yield "embeddings.word_embeddings.weight", (vocabulary, HIDDEN)
    yield "embeddings.position_embeddings.weight", (POSITIONS, HIDDEN)
    yield from norm("embeddings.LayerNorm")
    yield "encoder.relative_attention_bias.weight", (BUCKETS, HEADS)
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for part in ("q", "k", "v", "o"):
            yield from linear(f"{at}.attention.attn.{part}", HIDDEN, HIDDEN)
        yield from norm(f"{at}.attention.LayerNorm")
        yield from linear(f"{at}.intermediate.dense", WIDE, HIDDEN)
        yield from linear(f"{at}.output.dense", HIDDEN, WIDE)
        yield from norm(f"{at}.output.LayerNorm")
    yield from linear("pooler.dense", HIDDEN, HIDDEN)


def encoder_shapes(hidden: int, wide: int, layers: int) -> Shapes:
    """Name the tensors of the encoder, with both norms also where one is not used."""
    for layer in range(layers):
        at = f"layers.{layer}"
        yield from norm(f"{at}.norm1", hidden)
        for part in ("query", "key", "value", "output"):
            yield from linear(f"{at}.attention.{part}", hidden, hidden)
        yield from norm(f"{at}.norm2", hidden)
        if wide:
            yield from linear(f"{at}.feed_forward.up", wide, hidden)
            yield from linear(f"{at}.feed_forward.down", hidden, wide)

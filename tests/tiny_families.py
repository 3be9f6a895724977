"""The tiny models of families that came after BERT's kin: their config and the shapes of tensors.

Sizes are odd on purpose: nothing may depend on a multiple of a block or of a vector.
"""

import re
from collections.abc import Callable
from typing import Any

from tiny_weights import HEADS, HIDDEN, POSITIONS, WIDE, Shapes, bert_shapes, linear, norm

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


def albert(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe ALBERT."""
    width, groups = config.get("embedding_size", NARROW), config.get("num_hidden_groups", 1)
    plain = {**sizes("albert", layers, vocabulary), "embedding_size": width}
    return {**plain, "hidden_act": "gelu_new"}, albert_shapes(vocabulary, width, groups)


def albert_shapes(vocabulary: int, width: int, groups: int) -> Shapes:
    """Name the tensors of ALBERT, one layer to a group."""
    for table, rows in (("word", vocabulary), ("position", POSITIONS), ("token_type", 2)):
        yield f"embeddings.{table}_embeddings.weight", (rows, width)
    yield from norm("embeddings.LayerNorm", width)
    yield from linear("encoder.embedding_hidden_mapping_in", HIDDEN, width)
    for group in range(groups):
        at = f"encoder.albert_layer_groups.{group}.albert_layers.0"
        yield from norm(f"{at}.full_layer_layer_norm")
        for part in ("query", "key", "value", "dense"):
            yield from linear(f"{at}.attention.{part}", HIDDEN, HIDDEN)
        yield from norm(f"{at}.attention.LayerNorm")
        yield from linear(f"{at}.ffn", WIDE, HIDDEN)
        yield from linear(f"{at}.ffn_output", HIDDEN, WIDE)
    yield from linear("pooler", HIDDEN, HIDDEN)


def modernbert(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe ModernBERT, whose windows are narrower than the texts."""
    plain = {**sizes("modernbert", layers, vocabulary), "local_attention": 7}
    ends = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
    plain.update({**ends, "hidden_activation": "gelu"})
    return plain, modernbert_shapes(layers, vocabulary, config)


def modernbert_shapes(layers: int, vocabulary: int, config: Json) -> Shapes:
    """Name the tensors of ModernBERT."""
    bias = {
        part: config.get(f"{key}_bias", False)
        for part, key in (("attn", "attention"), ("mlp", "mlp"), ("norm", "norm"))
    }
    yield "embeddings.tok_embeddings.weight", (vocabulary, HIDDEN)
    yield from only_weight(norm("embeddings.norm"), bias["norm"])
    for layer in range(layers):
        at = f"layers.{layer}"
        if layer:
            yield from only_weight(norm(f"{at}.attn_norm"), bias["norm"])
        yield from only_weight(linear(f"{at}.attn.Wqkv", 3 * HIDDEN, HIDDEN), bias["attn"])
        yield from only_weight(linear(f"{at}.attn.Wo", HIDDEN, HIDDEN), bias["attn"])
        yield from only_weight(norm(f"{at}.mlp_norm"), bias["norm"])
        yield from only_weight(linear(f"{at}.mlp.Wi", 2 * WIDE, HIDDEN), bias["mlp"])
        yield from only_weight(linear(f"{at}.mlp.Wo", HIDDEN, WIDE), bias["mlp"])
    yield from only_weight(norm("final_norm"), bias["norm"])


def only_weight(shapes: Shapes, bias: bool) -> Shapes:
    """Leave the bias out, unless there is one."""
    for name, shape in shapes:
        if bias or not name.endswith(".bias"):
            yield name, shape


def nomic_bert(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe NomicBERT as transformers saves it."""
    return sizes("nomic_bert", layers, vocabulary), rotary_shapes(layers, vocabulary, 2)


def gte(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe GTE as transformers saves it."""
    plain = {**sizes("gte", layers, vocabulary), "pad_token_id": 1}
    types = config.get("type_vocab_size", 1)
    return plain, rotary_shapes(layers, vocabulary, types, ("q", "k", "v", "o", "down"))


def rotary_shapes(layers: int, vocabulary: int, types: int, biased: tuple[str, ...] = ()) -> Shapes:
    """Name the tensors of NomicBERT and GTE."""
    yield "embeddings.word_embeddings.weight", (vocabulary, HIDDEN)
    if types:
        yield "embeddings.token_type_embeddings.weight", (types, HIDDEN)
    yield from norm("embeddings.LayerNorm")
    for layer in range(layers):
        at = f"layers.{layer}"
        for part in ("q", "k", "v", "o"):
            projection = linear(f"{at}.self_attn.{part}_proj", HIDDEN, HIDDEN)
            yield from only_weight(projection, part in biased)
        yield from norm(f"{at}.post_attention_layernorm")
        yield from only_weight(linear(f"{at}.mlp.gate_proj", WIDE, HIDDEN), False)
        yield from only_weight(linear(f"{at}.mlp.up_proj", WIDE, HIDDEN), False)
        yield from only_weight(linear(f"{at}.mlp.down_proj", HIDDEN, WIDE), "down" in biased)
        yield from norm(f"{at}.post_mlp_layernorm")


def jina(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe JinaBERT v2 as its own code saves it."""
    plain = {
        **sizes("bert", layers, vocabulary),
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "auto_map": {"AutoModel": "jina_bert.JinaBertModel"},
    }
    return plain, jina_shapes(layers, vocabulary)


def jina_shapes(layers: int, vocabulary: int) -> Shapes:
    """Name the tensors of JinaBERT v2."""
    for name, shape in bert_shapes(layers, vocabulary, 2):
        replaced = ".intermediate." in name or re.search(r"\.\d\.output\.", name)
        if not replaced and "position_embeddings" not in name:
            yield name, shape
    for layer in range(layers):
        at = f"encoder.layer.{layer}.mlp"
        yield from only_weight(linear(f"{at}.gated_layers", 2 * WIDE, HIDDEN), False)
        yield from linear(f"{at}.wo", HIDDEN, WIDE)
        yield from norm(f"{at}.layernorm")


def deberta(layers: int, vocabulary: int, config: Json) -> tuple[Json, Shapes]:
    """Describe DeBERTa-v3: all distances relative, in logarithmic buckets."""
    plain = {
        **sizes("deberta-v2", layers, vocabulary),
        "layer_norm_eps": 1e-7,
        "relative_attention": True,
        "share_att_key": True,
        "position_buckets": 12,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
    }
    return plain, deberta_shapes(layers, vocabulary, {**plain, **config})


def deberta_shapes(layers: int, vocabulary: int, config: Json) -> Shapes:
    """Name the tensors of DeBERTa-v2 and v3."""
    span = config["position_buckets"] if config["position_buckets"] > 0 else POSITIONS
    for name, shape in bert_shapes(layers, vocabulary, config["type_vocab_size"]):
        part = re.search(r"embeddings\.(position|token_type)", name)
        absent = {"position": not config["position_biased_input"], "token_type": not shape[0]}
        if not (part and absent[part[1]]) and not name.startswith("pooler."):
            yield re.sub(r"self\.(query|key|value)", r"self.\1_proj", name), shape
    yield "encoder.rel_embeddings.weight", (2 * span, HIDDEN)
    if config["norm_rel_ebd"] == "layer_norm":
        yield from norm("encoder.LayerNorm")


FAMILIES: dict[str, Callable[[int, int, Json], tuple[Json, Shapes]]] = {
    "electra": electra,
    "albert": albert,
    "modernbert": modernbert,
    "nomic_bert": nomic_bert,
    "gte": gte,
    "jina": jina,
    "deberta-v2": deberta,
}

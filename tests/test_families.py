"""Model families: which tensor is which, and what is refused before a weight is read."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.families import FAMILIES, expected_shapes, family_for

Json = dict[str, Any]
MODEL_TYPES = [name for family in FAMILIES for name in family.model_types]
TEXT_MODEL_TYPES = [name for name in MODEL_TYPES if name not in ("encoder", "vit")]
BERT_TYPES = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet")
REQUIRED: Json = {"relative_attention": True, "share_att_key": True}  # by DeBERTa
SIZES: Json = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3}


def raw_config(directory: Path) -> Json:
    content: Json = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return content


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Read names and shapes from the headers of all safetensors files."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in directory.glob("*.safetensors"):
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        header.pop("__metadata__")
        shapes.update((name, tuple(entry["shape"])) for name, entry in header.items())
    return shapes


def names_of(raw: Json) -> list[str]:
    """List the checkpoint names that a config calls for."""
    family = family_for(raw)
    return list(family.sources(family.config(raw)))


@pytest.mark.parametrize("name", [*tiny_models.MODELS, *tiny_models.ENCODERS])
def test_every_tensor_of_a_checkpoint_finds_its_place(name: str, tmp_path: Path) -> None:
    directory = tiny_models.write(name, tmp_path)
    raw, shapes = raw_config(directory), stored_shapes(directory)
    family = family_for(raw)
    config = family.config(raw)
    found = family.match(shapes, config)
    expected = expected_shapes(config)
    assert found.keys() == expected.keys()
    for tensor, source in found.items():
        rows, *rest = shapes[source.checkpoint_name]
        stored = (rows // source.parts, *rest)
        assert (stored[::-1] if source.kind == "linear" else stored) == expected[tensor]
    left_out = shapes.keys() - {source.checkpoint_name for source in found.values()}
    assert all(re.search(r"pooler|cls\.|position_ids", name) for name in left_out)


def test_the_papers_encoder_has_its_number_of_parameters(tmp_path: Path) -> None:
    raw = raw_config(tiny_models.write("encoder-paper", tmp_path))
    shapes = expected_shapes(family_for(raw).config(raw))
    assert sum(rows * (cols[0] if cols else 1) for rows, *cols in shapes.values()) == 33_792


@pytest.mark.parametrize("model_type", BERT_TYPES)
def test_a_config_without_sizes_has_those_of_the_base_model(model_type: str) -> None:
    config = family_for({"model_type": model_type}).config({"model_type": model_type})
    layers = 6 if model_type == "distilbert" else 12
    assert (config.family, config.hidden, config.layers, config.heads, config.intermediate) == (
        model_type,
        768,
        layers,
        12,
        3072,
    )
    assert (config.activation, config.norm_eps, config.positions) == ("gelu", 1e-12, 512)


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("electra", (12, 256, 4, 1024, 128)),
        ("albert", (12, 4096, 64, 16384, 128)),
        ("modernbert", (22, 768, 12, 1152, 0)),
        ("nomic_bert", (12, 768, 12, 3072, 0)),
        ("gte", (12, 768, 12, 3072, 0)),
        ("deberta-v2", (24, 1536, 24, 6144, 0)),
    ],
)
def test_a_config_of_a_later_family_without_sizes_has_those_of_its_class(
    model_type: str, sizes: tuple[int, ...]
) -> None:
    raw = {"model_type": model_type, **REQUIRED}
    config = family_for(raw).config(raw)
    assert sizes == (
        config.layers,
        config.hidden,
        config.heads,
        config.intermediate,
        config.embedding_size,
    )


@pytest.mark.parametrize("model_type", TEXT_MODEL_TYPES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("is_causal", True),
        ("is_encoder_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("auto_map", {"AutoModel": "modeling.Other"}),
        ("embedding_size", 0),
        ("vocab_size", 0),
        ("vocab_size", "many"),
        ("max_position_embeddings", -1),
    ],
)
def test_what_cannot_be_done_exactly_is_refused_by_key_and_value(
    model_type: str, key: str, value: object
) -> None:
    with pytest.raises(InvalidCheckpoint, match=re.escape(f"config.json has {key} = {value!r}")):
        family_for({"model_type": model_type, key: value})


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("bert", "hidden_act", "quick_gelu"),
        ("bert", "hidden_act", None),
        ("roberta", "hidden_act", "quick_gelu"),
        ("mpnet", "hidden_act", "gelu_10"),
        ("distilbert", "activation", "tanh"),
        ("encoder", "hidden_act", "mish"),
        ("bert", "num_attention_heads", 5),
        ("distilbert", "n_heads", 7),
        ("bert", "num_hidden_layers", True),
        ("bert", "hidden_size", 0),
        ("distilbert", "dim", 1.5),
        ("bert", "intermediate_size", 0),
        ("bert", "type_vocab_size", 0),
        ("bert", "layer_norm_eps", 0),
        ("bert", "layer_norm_eps", "1e-5"),
        ("roberta", "pad_token_id", None),
        ("camembert", "pad_token_id", 512),
        ("mpnet", "relative_attention_num_buckets", 64),
        ("mpnet", "max_position_embeddings", 2),
        ("albert", "inner_group_num", 2),
        ("albert", "num_hidden_groups", 13),
        ("modernbert", "layer_types", ["full_attention"]),
        ("modernbert", "local_rope_theta", None),
        ("modernbert", "num_attention_heads", 256),
        ("modernbert", "norm_bias", 1),
        ("nomic_bert", "activation_function", "geglu"),
        ("nomic_bert", "prenorm", True),
        ("nomic_bert", "rotary_emb_fraction", 0.5),
        ("nomic_bert", "rotary_scaling_factor", 2),
        ("nomic_bert", "num_experts", 8),
        ("nomic_bert", "head_dim", 32),
        ("nomic_bert", "rope_parameters", {"rope_type": "yarn"}),
        ("gte", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("new", "layer_norm_type", "rms_norm"),
        ("new", "logn_attention_scale", True),
        ("deberta-v2", "relative_attention", False),
        ("deberta-v2", "share_att_key", False),
        ("deberta-v2", "conv_kernel_size", 3),
        ("deberta-v2", "pos_att_type", "p2p"),
        ("encoder", "final_activation", True),
        ("encoder", "final_activation", "yes"),
        ("encoder", "intermediate_size", -1),
    ],
)
def test_a_value_outside_a_familys_range_is_refused(
    model_type: str, key: str, value: object
) -> None:
    needed = {"encoder": SIZES, "deberta-v2": REQUIRED}.get(model_type, {})
    raw = {"model_type": model_type, **needed, key: value}
    with pytest.raises(InvalidCheckpoint, match=re.escape(f"{key} = {value!r}, expected")):
        family_for(raw)


@pytest.mark.parametrize("model_type", ["llama", "t5", "", None, 7, ["bert"]])
def test_an_unknown_model_type_is_refused_with_those_that_are_known(model_type: object) -> None:
    with pytest.raises(InvalidCheckpoint) as caught:
        family_for({"model_type": model_type})
    assert caught.value.message == (
        f"config.json has model_type = {model_type!r}, expected one of bert, distilbert, "
        "roberta, xlm-roberta, camembert, mpnet, electra, albert, modernbert, nomic_bert, gte, "
        "new, deberta-v2, vit, encoder"
    )


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers"])
def test_an_encoder_has_no_default_sizes(key: str) -> None:
    raw = {"model_type": "encoder", **SIZES}
    del raw[key]
    with pytest.raises(InvalidCheckpoint, match=f"config.json lacks {key}"):
        family_for(raw)


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("gelu", "gelu"),
        ("gelu_python", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_fast", "gelu_tanh"),
        ("gelu_accurate", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
        ("gelu_python_tanh", "gelu_tanh"),
        ("relu", "relu"),
        ("swish", "silu"),
    ],
)
def test_activations_are_told_apart(name: str, activation: str) -> None:
    raw = {"model_type": "bert", "hidden_act": name}
    assert family_for(raw).config(raw).activation == activation


@pytest.mark.parametrize(
    ("model_type", "code"),
    [("nomic_bert", "x--modeling_hf_nomic_bert.NomicBertModel"), ("new", "x--modeling.NewModel")],
)
def test_a_familys_own_code_on_the_hub_is_known(model_type: str, code: str) -> None:
    raw = {"model_type": model_type, "auto_map": {"AutoModel": code}}
    assert family_for(raw).config(raw).family == model_type


def test_bert_with_alibi_is_jinas() -> None:
    raw: Json = {"model_type": "bert", "position_embedding_type": "alibi"}
    with pytest.raises(InvalidCheckpoint, match="feed_forward_type = 'original', expected"):
        family_for(raw)
    raw["feed_forward_type"] = "geglu"
    assert family_for(raw).config(raw).family == "jina-bert"
    with pytest.raises(InvalidCheckpoint, match="auto_map"):
        family_for({**raw, "auto_map": {"AutoModel": "modeling.BertModel"}})


def test_local_layers_of_modernbert_are_all_but_every_third() -> None:
    raw = {"model_type": "modernbert", "num_hidden_layers": 7}
    assert family_for(raw).config(raw).local_layers == [1, 2, 4, 5]
    every = {**raw, "global_attn_every_n_layers": 2}
    assert family_for(every).config(every).local_layers == [1, 3, 5]


def test_positions_of_roberta_count_from_its_padding_token() -> None:
    raw = {"model_type": "xlm-roberta", "pad_token_id": 3}
    assert family_for(raw).config(raw).padding_id == 3


def test_positions_of_mpnet_count_from_1_whatever_its_padding_token() -> None:
    raw = {"model_type": "mpnet", "pad_token_id": 0}
    assert family_for(raw).config(raw).padding_id == 1


def test_norms_of_distilbert_have_an_eps_of_their_own() -> None:
    raw = {"model_type": "distilbert", "layer_norm_eps": 1e-3}
    assert family_for(raw).config(raw).norm_eps == 1e-12


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_missing_tensor_is_refused_by_name(model_type: str) -> None:
    raw = {"model_type": model_type, **SIZES, "intermediate_size": 200, **REQUIRED}
    names = names_of(raw)
    with pytest.raises(InvalidCheckpoint, match=re.escape(f"missing tensors: {names[-1]}")):
        family_for(raw).match(names[:-1], family_for(raw).config(raw))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_an_unexpected_tensor_is_refused_by_name(model_type: str) -> None:
    raw = {"model_type": model_type, **SIZES, "intermediate_size": 200, **REQUIRED}
    names = [*names_of(raw), "adapter.down.weight"]
    with pytest.raises(InvalidCheckpoint, match=r"unexpected tensors: adapter\.down\.weight"):
        family_for(raw).match(names, family_for(raw).config(raw))


def test_a_layer_more_than_the_config_says_is_refused() -> None:
    raw = {"model_type": "bert", "num_hidden_layers": 1}
    names = [*names_of(raw), "encoder.layer.1.output.dense.bias"]
    with pytest.raises(InvalidCheckpoint, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        family_for(raw).match(names, family_for(raw).config(raw))


def test_a_tensor_under_two_names_is_refused() -> None:
    raw = {"model_type": "bert"}
    names = [*names_of(raw), "bert.embeddings.LayerNorm.gamma"]
    with pytest.raises(InvalidCheckpoint, match="same weight under two names") as caught:
        family_for(raw).match(names, family_for(raw).config(raw))
    assert "bert.embeddings.LayerNorm.gamma" in caught.value.message
    assert "embeddings.LayerNorm.weight" in caught.value.message


@pytest.mark.parametrize(
    ("model_type", "prefix", "head"),
    [
        ("bert", "bert.", "cls.predictions.transform.dense.weight"),
        ("bert", "bert.", "classifier.weight"),
        ("bert", "bert.", "bert.pooler.dense.bias"),
        ("distilbert", "distilbert.", "vocab_layer_norm.weight"),
        ("distilbert", "distilbert.", "pre_classifier.bias"),
        ("roberta", "roberta.", "lm_head.decoder.weight"),
        ("xlm-roberta", "roberta.", "lm_head.bias"),
        ("camembert", "roberta.", "classifier.out_proj.weight"),
        ("mpnet", "mpnet.", "lm_head.layer_norm.weight"),
    ],
)
def test_a_head_is_left_out(model_type: str, prefix: str, head: str) -> None:
    raw = {"model_type": model_type}
    names = [prefix + name for name in names_of(raw)]
    config = family_for(raw).config(raw)
    found = family_for(raw).match([*names, head], config)
    assert {source.checkpoint_name for source in found.values()} == set(names)


def test_the_unused_norm_of_an_encoder_may_be_missing() -> None:
    raw = {"model_type": "encoder", **SIZES}
    names = [name for name in names_of(raw) if "norm2" not in name]
    found = family_for(raw).match(names, family_for(raw).config(raw))
    assert len(found) == len(names) == 2 * 10


def test_the_used_norm_of_an_encoder_may_not() -> None:
    raw = {"model_type": "encoder", **SIZES, "intermediate_size": 200}
    names = [name for name in names_of(raw) if "norm2" not in name]
    with pytest.raises(InvalidCheckpoint, match=r"missing tensors: layers\.0\.norm2\.weight"):
        family_for(raw).match(names, family_for(raw).config(raw))


def test_the_encoders_page_names_its_tensors_and_keys() -> None:
    page = (Path(__file__).parent.parent / "docs" / "encoder-family.md").read_text()
    raw = {"model_type": "encoder", **SIZES, "intermediate_size": 200}
    for name in names_of(raw):
        part = name.removeprefix("layers.0.").removesuffix(".weight").removesuffix(".bias")
        assert part.rpartition(".")[2] in page
    for key in ("final_activation", "layer_norm_eps", "hidden_act", *raw):
        assert f"`{key}`" in page

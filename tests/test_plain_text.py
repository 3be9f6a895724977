"""Plain text has the tokens of the library, from a table that is made of its vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends_present import reason_missing
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

if missing := reason_missing("cpu"):
    pytest.skip(missing, allow_module_level=True)

from pageformer.cpu_backend import plain_text

FRAGMENTS = st.sampled_from(
    ["a", "UNBELIEVABLE", "hello", "##ing", "don't", "3.14", "x" * 98, "x" * 101, "\x7f", "\x00",
     "\x0b", "\x1c", "\t", "\r\n", "  ", "qqzzj", "[SEP]", "[mask]", "é", "日", "#",
     "`", "~", "@", "{", "foo_bar"]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS | st.text(max_size=3) | st.characters(max_codepoint=127)).map("".join)


@pytest.fixture(scope="module")
def data(minilm_dir: Path) -> bytes:
    return (minilm_dir / "tokenizer.json").read_bytes()


def reader(data: bytes) -> plain_text.Plain | None:
    return plain_text.reader(memoryview(plain_text.table(data)))


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    told = json.loads(data)
    change(told)
    return json.dumps(told).encode()


def cased(told: Any) -> None:
    told["normalizer"]["lowercase"] = False


def with_words(told: Any) -> None:
    word = {"single_word": False, "lstrip": False, "rstrip": False, "special": False}
    told["added_tokens"].append({"id": 40000, "content": "Hello", "normalized": True, **word})


def with_bert_processing(told: Any) -> None:
    ends = {"sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}
    told["post_processor"] = {"type": "BertProcessing", **ends}


@pytest.mark.parametrize("change", [lambda told: None, cased, with_words, with_bert_processing])
def test_ids_are_those_of_the_library(data: bytes, change: Callable[[Any], None]) -> None:
    data = changed(data, change)
    plain, library = reader(data), Library.from_buffer(data)
    library.no_padding()
    assert plain is not None

    @settings(max_examples=1000, deadline=None)
    @given(TEXTS, st.sampled_from([2, 3, 8, 20, 512]))
    def check(text: str, limit: int) -> None:
        found = plain(text, limit)
        library.no_truncation()
        whole = library.encode(text).ids
        library.enable_truncation(limit)
        if found is None:
            assert not text.isascii() or set(text) & set("[Hh")
        else:
            assert found == (library.encode(text).ids, len(whole) > limit)

    check()


def test_most_english_is_plain(data: bytes) -> None:
    plain = reader(data)
    assert plain is not None
    assert plain("Which function rounds a number down?", 256) is not None
    assert plain("a café", 256) is None
    assert plain("a [MASK] token", 256) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["model"].update(continuing_subword_prefix="@@"),
        lambda told: told["model"].update(max_input_chars_per_word=1000),
        lambda told: told.update(pre_tokenizer={"type": "Whitespace"}),
        lambda told: told.update(normalizer={"type": "Lowercase"}),
        lambda told: told.update(post_processor=None),
        lambda told: told["added_tokens"][0].update(content="Å", normalized=True),
    ],
)
def test_another_tokenizer_has_no_table(data: bytes, change: Callable[[Any], None]) -> None:
    assert reader(changed(data, change)) is None


def test_bytes_that_are_no_table_are_refused() -> None:
    plain = plain_text.reader(memoryview(bytes(200)))
    assert plain is not None
    with pytest.raises(ValueError, match="no table of pieces"):
        plain("a", 8)

"""A long text is tokenised from its near end only, with the ids that the whole text has."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from pageformer.udfs.tokenizer import PIECE, Tokenizer

LIMIT = 16
FRAGMENTS = st.sampled_from(
    ["a", "bc", " ", "  ", "\n", "hello", "unbelievable", "日本", "é", "e\u0301", "ß", "👩‍👧", "3",
     "don't", "[SEP]", "[MA", "SK]", ".", "#", "\u200d", "x" * 120]
)  # fmt: skip
TEXTS = st.lists(FRAGMENTS, max_size=300).map("".join)


@pytest.fixture(scope="module")
def data(minilm_dir: Path) -> bytes:
    return (minilm_dir / "tokenizer.json").read_bytes()


@pytest.fixture(scope="module")
def ours(data: bytes) -> Tokenizer:
    return Tokenizer(lambda: data, LIMIT)


def library(data: bytes, direction: str | None = None) -> Library:
    whole = Library.from_buffer(data)
    whole.no_padding()
    whole.no_truncation()
    if direction:
        whole.enable_truncation(LIMIT, direction=direction)
    return whole


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_cut_text_has_the_ids_of_the_library(data: bytes, ours: Tokenizer, side: str) -> None:
    reference = library(data, side)

    @settings(max_examples=300, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        assert ours.encode(text, side).ids == reference.encode(text).ids

    check()


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_near_end_is_answered_only_when_it_is_sure(
    data: bytes, ours: Tokenizer, side: str
) -> None:
    reference = library(data, side)

    @settings(max_examples=300, deadline=None)
    @given(TEXTS, TEXTS)
    def check(near: str, far: str) -> None:
        tokens = ours.encode_end(near, side)
        if tokens is not None:
            whole = near + far if side == "right" else far + near
            assert tokens.ids == reference.encode(whole).ids

    check()


def test_pieces_have_the_tokens_of_the_whole(data: bytes, ours: Tokenizer) -> None:
    text = "Unbelievable  things, [SEP] of 3.5 kinds\n" * (3 * PIECE // 40)
    whole = library(data).encode(text)
    pieces = [token for tokens in ours.tokens(text) for token in tokens]
    assert [token.id for token in pieces] == whole.ids
    content = slice(1, -1)
    assert [(t.start, t.end) for t in pieces[content]] == whole.offsets[content]


def test_one_endless_word_is_read_whole(data: bytes, ours: Tokenizer) -> None:
    text = "x" * 100_000
    assert ours.encode(text).ids == library(data, "right").encode(text).ids
    assert ours.encode_end(text, "right") is None


class Cancelled(Exception):
    """What a pulse raises in these tests."""


@pytest.mark.parametrize("text", ["ä" * 1_000_000, "a" * 1_000_000], ids=["others", "ASCII"])
def test_tokenising_an_endless_word_is_given_up(data: bytes, text: str) -> None:
    seen = []

    def pulse() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise Cancelled

    tokenizer = Tokenizer(lambda: data, LIMIT, pulse=pulse)
    for reading in (tokenizer.encode, lambda text: list(tokenizer.tokens(text))):
        seen.clear()
        with pytest.raises(Cancelled):
            reading(text)
    assert len(tokenizer.encode("the next text").ids) == 5


def test_an_endless_word_has_the_ids_of_the_library(data: bytes, ours: Tokenizer) -> None:
    text = "ä" * 100_000
    assert ours.encode(text).ids == library(data).encode(text).ids

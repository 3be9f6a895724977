"""Long documents in pieces, late interaction, and what describe tells."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from reference.texts import PARAGRAPH, TEXTS

from pageformer.loader.load import load

Session = psycopg.Connection[Any]
NAMES = ("bert-mean", "roberta-mean", "bert-prompts", "bert-dense")
LONG = "\n\n".join([PARAGRAPH] * 6)


@pytest.fixture(scope="module")
def session(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        for name in (*NAMES, "encoder-paper"):
            load(connection, str(tiny_models.write(name, folder)), name=name)
        connection.execute("set search_path = pageformer, public")
        yield connection


def rows(session: Session, sql: str, *arguments: object) -> list[Any]:
    return session.execute(sql, arguments).fetchall()


def refusal(session: Session, sql: str, *arguments: object) -> str:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(sql, arguments)
    return caught.value.diag.message_primary or ""


@pytest.mark.parametrize("name", ["bert-mean", "roberta-mean"])
@pytest.mark.parametrize(("size", "overlap"), [(20, 0), (20, 5), (128, 30), (9, 0)])
@pytest.mark.parametrize("boundary", ["word", "sentence", "token"])
@pytest.mark.parametrize("kind", ["paragraphs", "chinese", "emoji", "word of 5000 letters"])
def test_chunks_are_small_enough_and_leave_nothing_out(
    session: Session, name: str, size: int, overlap: int, boundary: str, kind: str
) -> None:
    text = TEXTS[kind] if kind != "word of 5000 letters" else TEXTS[kind][:300]
    sql = "select *, count_tokens(chunk, %s) from chunk(%s, %s, %s, %s, %s)"
    found = rows(session, sql, name, text, name, size, overlap, boundary)
    last = 0
    for chunk, start, end, count in found:
        assert chunk == text[start:end]
        assert count <= size
        assert not text[last:start].strip()
        assert start < end
        assert end > last or not overlap
        last = end
    assert not text[last:].strip()


def test_chunks_overlap_by_so_many_tokens(session: Session) -> None:
    sql = "select start_offset, end_offset from chunk(%s, 'bert-mean', 22, 6, 'token')"
    spans = rows(session, sql, LONG)
    tokens = rows(session, "select start_offset from tokenize(%s, 'bert-mean')", LONG)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert sum(start <= place < end for (place,) in tokens) == 6


def test_chunks_begin_and_end_with_words(session: Session) -> None:
    for _, start, end in rows(session, "select * from chunk(%s, 'bert-mean', 20, 4)", LONG):
        assert start == 0 or not (LONG[start - 1].isalpha() and LONG[start].isalpha())
        assert end == len(LONG) or not (LONG[end - 1].isalpha() and LONG[end].isalpha())


def test_chunks_begin_and_end_with_sentences(session: Session) -> None:
    text = "Dr. Hu sat, e.g. here. It was warm! Was it? 今天天气很好。我们去公园。 No. So it is."
    found = rows(session, "select chunk from chunk(%s, 'bert-mean', 25, 0, 'sentence')", text)
    assert " ".join(chunk for (chunk,) in found).split() == text.split()
    assert all(chunk.endswith((".", "!", "?", "。")) for (chunk,) in found)
    assert len(found) > 1
    assert found[0][0].startswith("Dr. Hu sat, e.g. here.")


def test_chunks_overlap_by_whole_sentences(session: Session) -> None:
    text = "It was so. " * 40
    sql = "select * from chunk(%s, 'bert-mean', 40, 12, 'sentence')"
    found = rows(session, sql, text)
    assert {
        text[start:end] for (_, start, _), (_, _, end) in zip(found[1:], found, strict=False)
    } == {"It was so. It was so. It was so."}


@pytest.mark.parametrize(
    "text", ["a\u2028b. C\u2003d.\x85 E", "A.\u2007B. " * 9000, "“" * 30000, "\n" * 9]
)
def test_sentences_are_found_in_odd_texts(session: Session, text: str) -> None:
    sql = "select * from chunk(%s, 'bert-mean', boundary => 'sentence')"
    for chunk, start, end in rows(session, sql, text):
        assert chunk == text[start:end]


@pytest.mark.parametrize("name", NAMES)
def test_chunks_have_the_embeddings_of_their_texts(session: Session, name: str) -> None:
    found = rows(session, "select *, chunk is not null from encode_chunks(%s, %s)", LONG, name)
    assert len(found) > 1
    for chunk, start, end, embedding, _ in found:
        assert chunk == LONG[start:end]
        sql = "select encode(%s, %s, truncate => 'error')::text"
        [[alone]] = rows(session, sql, chunk, name)
        np.testing.assert_allclose(
            np.array(embedding.strip("[]").split(","), float),
            np.array(alone.strip("[]").split(","), float),
            atol=2e-6,
        )


def test_chunks_leave_room_for_a_prompt(session: Session) -> None:
    prompt = "a prompt of some words that stands before every one of the chunks: "
    sql = "select chunk from encode_chunks(%s, 'bert-mean', prompt => %s)"
    for (chunk,) in rows(session, sql, LONG, prompt):
        [[count]] = rows(session, "select count_tokens(%s, 'bert-mean')", prompt + chunk)
        assert count <= 128


def test_a_text_without_tokens_has_no_chunks(session: Session) -> None:
    for text in (None, "", "  \n "):
        assert rows(session, "select * from chunk(%s, 'bert-mean')", text) == []
        assert rows(session, "select * from encode_chunks(%s, 'bert-mean')", text) == []


@pytest.mark.parametrize(("size", "overlap"), [(2, 0), (129, 0), (20, 18), (20, -1)])
def test_sizes_that_cannot_be_are_refused(session: Session, size: int, overlap: int) -> None:
    message = refusal(session, "select * from chunk('a', 'bert-mean', %s, %s)", size, overlap)
    assert message == f"pageformer: chunks of {size} tokens that overlap by {overlap} cannot be"


def test_a_boundary_that_is_not_built_says_so(session: Session) -> None:
    message = refusal(session, "select * from chunk('a', 'bert-mean', boundary => 'page')")
    assert message == "pageformer: boundary 'page' is not part of this release"


# -- late interaction -----------------------------------------------------------------------------


def test_max_sim_adds_up_the_best_inner_products(session: Session) -> None:
    draw = np.random.RandomState(1)
    a, b = draw.standard_normal((5, 7)), draw.standard_normal((9, 7))
    texts = [[str(row.tolist()) for row in matrix] for matrix in (a, b)]
    [[score]] = rows(session, "select max_sim(%s::vector[], %s::vector[])", *texts)
    assert score == pytest.approx((a @ b.T).max(axis=1).sum(), rel=1e-6)


def test_max_sim_of_token_embeddings_is_highest_for_the_text_itself(session: Session) -> None:
    sql = """
        with document (body, vectors) as (
            select body, (select array_agg(embedding)
                          from encode_tokens(body, 'bert-mean', normalized => true))
            from unnest(array['the water is long', 'two people', 'a word']) body
        )
        select body from document
        order by max_sim((select array_agg(embedding) from encode_tokens(
            'two people', 'bert-mean', normalized => true)), vectors) desc
    """
    assert rows(session, sql)[0] == ("two people",)


def test_max_sim_of_nothing_is_nothing(session: Session) -> None:
    assert rows(session, "select max_sim('{}', '{}'), max_sim(null, '{}')") == [(0, None)]


# -- describe -------------------------------------------------------------------------------------


def test_describe_tells_what_makes_a_vector(session: Session) -> None:
    told = dict(rows(session, "select * from describe('bert-prompts')"))
    [[hash]] = rows(session, "select hash from model_versions where model = 'bert-prompts'")
    expected = {
        "model": "bert-prompts",
        "version": "v1",
        "hash": hash,
        "family": "bert",
        "layers": "2",
        "dimension": "96",
        "longest input in tokens": "128",
        "pooling": "mean",
        "normalized": "yes",
        "prompt query": "'query: '",
        "default prompt": "query",
        "stored as": "f32",
        "backend": "auto",
    }
    assert expected.items() <= told.items()
    assert len(told["tokenizer sha256"]) == 64


def test_describe_tells_the_modules(session: Session) -> None:
    told = dict(rows(session, "select * from describe('bert-dense')"))
    assert told["dimension"] == "45"
    assert told["module 1"] == "dense, activation tanh, bias True, width 50"
    assert told["module 2"] == "layer_norm, eps 1e-05, width 50"


def test_describe_of_a_model_for_tensors_is_short(session: Session) -> None:
    told = dict(rows(session, "select * from describe('encoder-paper')"))
    assert told["family"] == "encoder"
    assert "pooling" not in told

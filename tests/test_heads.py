"""Labels, ranks, missing words and sparse vectors from SQL equal those of the reference."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import tiny_models
from reference.texts import DOCUMENTS, MASKED, QUERY, SOME, TEXTS

from pageformer.loader.load import load

RECORDED = Path(__file__).parent / "reference" / "recorded"
TOLERANCE = 1e-5
MODELS = {**tiny_models.HEADED, **tiny_models.RERANKERS, **tiny_models.SPARSE}

Array = npt.NDArray[Any]
Session = psycopg.Connection[Any]


def named(head: str) -> list[str]:
    return [name for name, model in tiny_models.HEADED.items() if model.head == head]


def recorded(name: str, reading: str) -> Array:
    with np.load(RECORDED / f"{name}.npz") as arrays:
        array: Array = arrays[reading]
    return array


def softmax(logits: Array) -> Array:
    shares = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))


@pytest.fixture(scope="module")
def session(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A connection to a database that holds every tiny model with a head."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        for name in [*MODELS, "bert-mean"]:
            load(connection, str(tiny_models.write(name, folder)), name=name)
        connection.execute("set search_path = pageformer, public")
        yield connection


def rows(session: Session, sql: str, *arguments: object) -> list[Any]:
    return session.execute(sql, arguments).fetchall()


def refusal(session: Session, sql: str, *arguments: object) -> tuple[str, str]:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(sql, arguments)
    return caught.value.diag.message_primary or "", caught.value.diag.message_hint or ""


# -- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named("sequence"))
def test_labels_have_the_reference_scores(session: Session, name: str) -> None:
    problem = MODELS[name].config.get("problem_type", "")
    score = {"multi_label_classification": sigmoid, "regression": np.asarray}.get(problem, softmax)
    for kind, logits in zip(SOME, recorded(name, "logits"), strict=True):
        found = rows(session, "select label, score from classify(%s, %s)", TEXTS[kind], name)
        expected = {f"label {i}": value for i, value in enumerate(score(logits).tolist())}
        assert [value for _, value in found] == sorted((v for _, v in found), reverse=True)
        assert dict(found) == pytest.approx(expected, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["bert-sequence", "modernbert-sequence"])
def test_a_batch_has_the_labels_of_its_texts(session: Session, name: str) -> None:
    texts = [TEXTS[kind] for kind in SOME]
    answer = rows(session, "select * from classify_batch(%s, %s)", [None, *texts], name)
    for index, text in enumerate(texts, start=2):
        alone = rows(session, "select label, score from classify(%s, %s)", text, name)
        found = [(label, score) for i, label, score in answer if i == index]
        assert dict(found) == pytest.approx(dict(alone), abs=1e-6)
    assert {i for i, *_ in answer} == {*range(2, len(texts) + 2)}


@pytest.mark.parametrize("name", named("tokens"))
def test_tokens_have_the_reference_labels(session: Session, name: str) -> None:
    logits = recorded(name, "logits")
    sql = "select * from classify_tokens(%s, %s) order by index"
    place = 0
    for kind in SOME:
        tokens = rows(session, "select start_offset, end_offset from tokenize(%s, %s)",
                      TEXTS[kind], name)  # fmt: skip
        found = rows(session, sql, TEXTS[kind], name)
        for index, _, label, score, start, end in found:
            expected = softmax(logits[place + index])
            assert label == f"label {expected.argmax()}"
            assert score == pytest.approx(expected.max(), abs=TOLERANCE)
            assert (start, end) == tokens[index]
        assert len(found) <= min(len(tokens), tiny_models.LIMIT)
        place += min(len(tokens), tiny_models.LIMIT)
    assert place == len(logits)


# -- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", tiny_models.RERANKERS)
def test_documents_are_ranked_by_the_reference_scores(session: Session, name: str) -> None:
    sql = "select index, score from rerank(%s, %s, %s)"
    found = rows(session, sql, QUERY, [*DOCUMENTS], name)
    expected = dict(enumerate(recorded(name, "scores").tolist(), start=1))
    assert dict(found) == pytest.approx(expected, rel=0, abs=TOLERANCE)
    assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)


def test_a_document_that_is_null_is_last_and_has_no_score(session: Session) -> None:
    found = rows(session, "select * from rerank('a', array[null, 'b'], 'bert-rerank')")
    assert [index for index, _ in found] == [2, 1]
    assert found[1][1] is None
    assert rows(session, "select * from rerank('a', '{}', 'bert-rerank')") == []
    assert rows(session, "select * from rerank(null, '{a}', 'bert-rerank')") == []


def test_a_pair_that_is_too_long_can_be_refused(session: Session) -> None:
    sql = "select * from rerank(%s, %s, 'bert-rerank', truncate => 'error')"
    message, _ = refusal(session, sql, "a", ["word " * 500])
    assert "more than 128 tokens" in message


def test_a_classifier_does_not_rank(session: Session) -> None:
    message, hint = refusal(session, "select * from rerank('a', '{b}', 'bert-sequence')")
    assert message == "pageformer: bert-sequence has 3 labels, not one score"
    assert hint == "rerank with a cross-encoder, or call pageformer.classify"


# -- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", named("words"))
def test_masks_are_filled_as_the_reference_does(session: Session, name: str) -> None:
    expected = iter(softmax(recorded(name, "logits")))
    mask = "<mask>" if "roberta" in name or "mpnet" in name or "gte" in name else "[MASK]"
    for text in MASKED:
        sql = "select index, token, score from fill_mask(%s, %s, 3)"
        found = rows(session, sql, text.replace("MASK", mask), name)
        for index in range(1, text.count("MASK") + 1):
            best = np.sort(next(expected))[::-1][:3]
            scores = [score for i, _, score in found if i == index]
            np.testing.assert_allclose(scores, best, rtol=0, atol=TOLERANCE)


def test_a_text_without_a_mask_is_told_what_one_looks_like(session: Session) -> None:
    message, hint = refusal(session, "select * from fill_mask('a text', 'bert-words')")
    assert message == "pageformer: the input has no mask"
    assert hint == "put [MASK] where a word is missing"


@pytest.mark.parametrize("name", tiny_models.SPARSE)
def test_sparse_vectors_equal_the_reference(session: Session, name: str) -> None:
    for kind, expected in zip(SOME, recorded(name, "weights"), strict=True):
        sql = "select encode_sparse(%s, %s, 16000)::text"
        [[text]] = rows(session, sql, TEXTS[kind], name)
        pairs, _, size = text.partition("/")
        weights = np.zeros(int(size))
        for pair in filter(None, pairs.strip("{}").split(",")):
            place, _, weight = pair.partition(":")
            weights[int(place) - 1] = float(weight)
        np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=TOLERANCE)


def test_a_sparse_vector_keeps_its_heaviest_words(session: Session) -> None:
    sql = "select encode_sparse('a text', 'bert-sparse', %s)::text"
    [[whole]], [[cut]] = rows(session, sql, 16000), rows(session, sql, 4)
    pairs = [pair.split(":") for pair in whole.partition("/")[0].strip("{}").split(",")]
    heaviest = sorted(pairs, key=lambda pair: -float(pair[1]))[:4]
    kept = [pair.split(":") for pair in cut.partition("/")[0].strip("{}").split(",")]
    assert sorted(kept) == sorted(heaviest)
    message, _ = refusal(session, sql, 0)
    assert message == "pageformer: nonzeros is 0, not a number from 1 to 16000"


def test_a_sparse_vector_can_be_indexed(session: Session) -> None:
    session.execute("create temp table doc (body text, words sparsevec(451))")
    sql = "insert into doc select t, encode_sparse(t, 'bert-sparse', 200) from unnest(%s::text[]) t"
    session.execute(sql, ([TEXTS[kind] for kind in SOME],))
    session.execute("create index on doc using hnsw (words sparsevec_ip_ops)")
    query = "select body from doc order by words <#> encode_sparse('hello world', 'bert-sparse')"
    assert len(rows(session, query)) == len(SOME)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        ("classify('a', 'bert-mean')", "a head that classifies texts"),
        ("classify_batch('{a}', 'bert-words')", "a head that classifies texts"),
        ("rerank('a', '{b}', 'bert-tokens')", "a head that classifies texts"),
        ("classify_tokens('a', 'bert-sequence')", "a head that classifies tokens"),
        ("fill_mask('a', 'bert-mean')", "a head that predicts words"),
    ],
)
def test_a_model_without_the_head_says_what_it_has(session: Session, call: str, needs: str) -> None:
    message, hint = refusal(session, f"select * from {call}")
    assert message.endswith(f"does not have {needs}")
    assert hint.startswith("it has ")


def test_a_model_that_is_not_sparse_says_so(session: Session) -> None:
    message, _ = refusal(session, "select encode_sparse('a', 'bert-words')")
    assert message == "pageformer: bert-words makes no sparse vectors"


def test_null_has_no_answer(session: Session) -> None:
    for call in (
        "classify(null, 'bert-sequence')",
        "classify_batch(null, 'bert-sequence')",
        "classify_tokens(null, 'bert-tokens')",
        "fill_mask(null, 'bert-words')",
    ):
        assert rows(session, f"select * from {call}") == []
    assert rows(session, "select encode_sparse(null, 'bert-sparse')") == [(None,)]


def test_a_model_with_a_head_encodes_too(session: Session) -> None:
    [[vector]] = rows(session, "select encode('a text', 'bert-sequence')::text")
    assert len(vector.split(",")) == 96

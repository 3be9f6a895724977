"""Vectors of tokens, and their scores, equal those of sentence-transformers' MultiVectorEncoder."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import tiny_late
from reference.texts import LATE
from tiny_files import Json, write_json

from pageformer.errors import InvalidCheckpoint
from pageformer.loader.checkpoint import read
from pageformer.loader.load import load

RECORDED = Path(__file__).parent / "reference" / "recorded"
TOLERANCE = 1e-5
NORMALISED = {name for name, model in tiny_late.MODELS.items() if model.normalized}

Session = psycopg.Connection[Any]
Array = npt.NDArray[Any]


@cache
def recorded(name: str) -> dict[str, Array]:
    with np.load(RECORDED / f"{name}.npz") as arrays:
        return dict(arrays)


def readings(name: str, kind: str) -> list[Array]:
    """Return the recorded vectors of each text."""
    ends = [0, *np.cumsum(recorded(name)[f"{kind} counts"]).tolist()]
    return [recorded(name)[kind][start:end] for start, end in pairwise(ends)]


@pytest.fixture(scope="module")
def session(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A connection to a database that holds every tiny model of late interaction."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        for name in tiny_late.MODELS:
            load(connection, str(tiny_late.write(name, folder)), name=name)
        connection.execute("set search_path = pageformer, public")
        yield connection


def vectors(session: Session, text: str, name: str, options: str) -> Array:
    sql = f"select embedding::text from encode_tokens(%s, %s, {options}) order by index"
    rows = session.execute(sql, (text, name)).fetchall()
    return np.array([json.loads(vector) for (vector,) in rows], np.float32)


def refusal(session: Session, sql: str) -> tuple[str, str]:
    with pytest.raises(psycopg.Error) as caught:
        session.execute(sql)
    return caught.value.diag.message_primary or "", caught.value.diag.message_hint or ""


@pytest.mark.parametrize("kind", ["query", "document", "neither"])
@pytest.mark.parametrize("name", tiny_late.MODELS)
def test_tokens_have_the_reference_vectors(session: Session, name: str, kind: str) -> None:
    options = "prompt => 'x: '" if kind == "neither" else f"prompt_name => '{kind}'"
    for text, expected in zip(LATE, readings(name, kind), strict=False):
        found = vectors(session, text, name, options).reshape(-1, expected.shape[1])
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE, err_msg=text[:60])


@pytest.mark.parametrize("name", tiny_late.MODELS)
def test_max_sim_is_the_score_of_the_library(session: Session, name: str) -> None:
    sql = """
        with text as (select * from unnest(%(texts)s::text[]) with ordinality t (body, index)),
        vectors as (
            select kind, text.index,
                (select coalesce(array_agg(embedding), '{}')
                 from encode_tokens(body, %(name)s, prompt_name => kind)) as vectors
            from text cross join unnest(array['query', 'document']) kind
        )
        select max_sim(q.vectors, d.vectors) from vectors q cross join vectors d
        where q.kind = 'query' and d.kind = 'document' order by q.index, d.index
    """
    texts = [LATE[i] for i in (0, 3, 5, 7)]
    found = session.execute(sql, {"texts": texts, "name": name}).fetchall()
    expected = recorded(name)["scores"][np.ix_([0, 3, 5, 7], [0, 3, 5, 7])].ravel()
    scale = 1 if name in NORMALISED else np.abs(expected).max()
    np.testing.assert_allclose([s for (s,) in found], expected, rtol=0, atol=20 * TOLERANCE * scale)


def test_a_text_that_is_neither_query_nor_document_is_asked_which(session: Session) -> None:
    message, hint = refusal(session, "select * from encode_tokens('a', 'late-bert')")
    assert message == "pageformer: this model reads queries and documents differently"
    assert hint == "say which this is: prompt_name => 'query' or prompt_name => 'document'"


@pytest.mark.parametrize("call", ["encode('a', 'late-bert', prompt_name => 'query')",
                                  "encode_batch('{a}', 'late-bert')",
                                  "encode_chunks('a', 'late-bert')"])  # fmt: skip
def test_one_vector_of_a_text_is_not_to_be_had(session: Session, call: str) -> None:
    message, hint = refusal(session, f"select {call}")
    assert message == "pageformer: this model makes a vector of every token, not one of a text"
    assert "encode_tokens" in hint


def test_a_cut_is_told_with_the_length_of_its_kind(session: Session) -> None:
    told: list[str] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    vectors(session, "word " * 60, "late-bert", "prompt_name => 'document'")
    assert told == ["an input was cut to the 40 tokens that late-bert takes"]
    message, _ = refusal(session, "select * from encode_tokens(repeat('word ', 60), 'late-bert', "
                                  "prompt_name => 'query', truncate => 'error')")  # fmt: skip
    assert "more than 20 tokens" in message


def test_dimensions_are_cut_then_normalised(session: Session) -> None:
    whole = vectors(session, "a text", "late-modernbert", "prompt_name => 'document'")
    cut = vectors(session, "a text", "late-modernbert",
                  "prompt_name => 'document', dimensions => 5, normalized => true")  # fmt: skip
    expected = whole[:, :5] / np.linalg.norm(whole[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_describe_tells_how_queries_and_documents_differ(session: Session) -> None:
    told = dict(session.execute("select * from describe('late-bert')").fetchall())
    assert told["query in tokens"] == "at most 20"
    assert told["document in tokens"] == "at most 40"
    assert told["short queries"].startswith("filled up to 20 with token ")
    assert told["prompt query"] == "'[Q] '"


@pytest.mark.parametrize(
    ("file", "key", "value", "told"),
    [
        ("sentence_bert_config.json", "query_expansion", {"strategy": "loop"}, "strategy = 'loop'"),
        (
            "sentence_bert_config.json",
            "query_expansion",
            {**tiny_late.CLASSIC, "token": "nowhere"},
            "query_expansion.token = 'nowhere'",
        ),
        (
            "sentence_bert_config.json",
            "query_expansion",
            {**tiny_late.CLASSIC, "length": 500},
            "query_length = 500",
        ),
        ("sentence_bert_config.json", "document_length", 500, "document_length = 500"),
        ("sentence_bert_config.json", "document_length", 2, "document_length = 2"),
        ("config_sentence_transformers.json", "similarity_fn_name", "meanmaxsim", "meanmaxsim"),
    ],
)
def test_a_setting_that_is_not_followed_is_refused_by_key(
    tmp_path: Path, file: str, key: str, value: object, told: str
) -> None:
    directory = tiny_late.write("late-bert", tmp_path)
    (directory / "model.safetensors").unlink()
    write_json(directory / file, {**json.loads((directory / file).read_text()), key: value})
    with pytest.raises(InvalidCheckpoint) as caught:
        read(directory)
    assert told in caught.value.message


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.multi_vector_encoder.modules.HierarchicalTokenPooling",
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.LayerNorm",
        "pylate.models.Other",
    ],
)
def test_a_module_that_is_not_known_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    directory = tiny_late.write("late-bert", tmp_path)
    modules: list[Json] = json.loads((directory / "modules.json").read_text())
    write_json(directory / "modules.json", [*modules, {"path": "", "type": kind}])
    with pytest.raises(InvalidCheckpoint, match=kind.rpartition(".")[2]):
        read(directory)


def test_expansion_without_a_mask_module_is_refused(tmp_path: Path) -> None:
    directory = tiny_late.write("late-bert", tmp_path)
    modules: list[Json] = json.loads((directory / "modules.json").read_text())
    kept = [module for module in modules if "Mask" not in module["type"]]
    write_json(directory / "modules.json", kept)
    with pytest.raises(InvalidCheckpoint, match="MultiVectorMask"):
        read(directory)

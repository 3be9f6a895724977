"""Vectors from SQL equal those of sentence-transformers, recorded by `reference/record.py`."""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest
import tiny_models
from reference.texts import LONG, SHORT, SOME, TEXTS

from pageformer.loader.load import load

RECORDED = Path(__file__).parent / "reference" / "recorded"
TOLERANCE = 1e-5
DEEP_TOLERANCE = 2e-5  # from 12 layers on
BATCH_TOLERANCE = 1e-6
# Elements around 4, not normalised, composed by NumPy: the last place is worth 5e-7.
LARGE_ELEMENTS = {"deberta-v2-cls": 2e-6, "deberta-v3-deep": 2e-6}
PROMPT = "Represent this sentence: "
LONGEST = 1000
NAMES = ["minilm", *tiny_models.MODELS]
ONE_OF_EACH_TOKENIZER = [
    "minilm",
    "bert-lowercase",
    "mpnet-mean",
    "roberta-mean",
    "xlm-roberta-mean",
    "camembert-mean",
]

Array = npt.NDArray[Any]


def tolerance(model: str) -> float:
    return DEEP_TOLERANCE if model.endswith("-deep") else TOLERANCE


@cache
def recorded(model: str) -> dict[str, Array]:
    with np.load(RECORDED / f"{model}.npz") as arrays:
        return dict(arrays)


def slices(values: Array, ends: Array) -> list[list[int]]:
    """Cut what was recorded one after another."""
    return [values[start:end].tolist() for start, end in pairwise([0, *ends.tolist()])]


@pytest.fixture(scope="module")
def models(
    module_database: str, minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[psycopg.Connection]:
    """A connection to a database that holds MiniLM, every tiny model and the encoders."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as connection:
        load(connection, str(minilm_dir), name="minilm")
        for name in [*tiny_models.MODELS, *tiny_models.ENCODERS]:
            load(connection, str(tiny_models.write(name, folder)), name=name)
        connection.execute("set search_path = pageformer, public")
        yield connection


def encode(models: psycopg.Connection, text: str, model: str, options: str = "") -> Array:
    sql = f"select encode(%s, %s{options})::text"
    return as_array(models.execute(sql, (text, model)).fetchall()[0][0])


def as_array(vector: str) -> Array:
    return np.array(vector.strip("[]").split(","), np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_texts_of_every_kind_have_the_reference_vectors(
    models: psycopg.Connection, name: str
) -> None:
    for (kind, text), expected in zip(TEXTS.items(), recorded(name)["vectors"], strict=True):
        np.testing.assert_allclose(
            encode(models, text, name), expected, rtol=0, atol=tolerance(name), err_msg=kind
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_equals_its_texts_one_by_one(models: psycopg.Connection, name: str) -> None:
    texts: list[str | None] = [*TEXTS.values()]
    texts[3:3] = [None, None]
    texts.append(None)
    [[answer]] = models.execute("select encode_batch(%s, %s)::text[]", (texts, name)).fetchall()
    assert [vector is None for vector in answer] == [text is None for text in texts]
    for text, vector in zip(texts, answer, strict=True):
        if text is not None:
            tolerance = LARGE_ELEMENTS.get(name, BATCH_TOLERANCE)
            np.testing.assert_allclose(
                as_array(vector), encode(models, text, name), rtol=0, atol=tolerance
            )


def test_an_empty_batch_is_empty(models: psycopg.Connection) -> None:
    assert models.execute("select encode_batch('{}', 'minilm')").fetchall() == [("{}",)]


def test_null_has_no_vector(models: psycopg.Connection) -> None:
    assert models.execute("select encode(null, 'minilm')").fetchall() == [(None,)]


@pytest.mark.parametrize("name", NAMES)
def test_tokens_before_pooling_have_the_reference_embeddings(
    models: psycopg.Connection, name: str
) -> None:
    rows = [
        as_array(embedding)
        for text in SOME
        for (embedding,) in models.execute(
            "select embedding::text from encode_tokens(%s, %s, prompt => '') order by index",
            (TEXTS[text], name),
        )
    ]
    expected = recorded(name)["token_embeddings"]
    np.testing.assert_allclose(np.stack(rows), expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_token_ids_equal_those_of_transformers(models: psycopg.Connection, name: str) -> None:
    arrays = recorded(name)
    ends = np.cumsum(np.minimum(arrays["counts"], LONGEST))
    for (kind, text), ids in zip(TEXTS.items(), slices(arrays["whole_ids"], ends), strict=True):
        rows = models.execute("select id from tokenize(%s, %s) order by index", (text, name))
        assert [id for (id,) in rows][:LONGEST] == ids, kind


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_counted_uncut(models: psycopg.Connection, name: str) -> None:
    for (kind, text), count in zip(TEXTS.items(), recorded(name)["counts"].tolist(), strict=True):
        sql = "select count_tokens(%s, %s)"
        assert models.execute(sql, (text, name)).fetchall() == [(count,)], kind


@pytest.mark.parametrize("name", NAMES)
def test_tokens_say_which_characters_they_stand_for(models: psycopg.Connection, name: str) -> None:
    sql = "select start_offset, end_offset from tokenize(%s, %s) order by index"
    pairs = [pair for text in SOME for pair in models.execute(sql, (TEXTS[text], name))]
    assert pairs == [tuple(pair) for pair in recorded(name)["offsets"].tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_stands_before_the_text(models: psycopg.Connection, name: str) -> None:
    for text, expected in zip(SHORT, recorded(name)["prompted"], strict=True):
        vector = encode(models, TEXTS[text], name, f", prompt => '{PROMPT}'")
        np.testing.assert_allclose(vector, expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", ["bert-prompts", "bert-prompt-not-pooled"])
@pytest.mark.parametrize("prompt_name", ["query", "passage"])
def test_a_prompt_is_found_by_name(models: psycopg.Connection, name: str, prompt_name: str) -> None:
    expected = recorded(name)[f"prompt_{prompt_name}"]
    for text, vector in zip(SHORT, expected, strict=True):
        options = f", prompt_name => '{prompt_name}'"
        found = encode(models, TEXTS[text], name, options)
        np.testing.assert_allclose(found, vector, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_dimensions_are_cut_then_normalised(models: psycopg.Connection, name: str) -> None:
    for text, expected in zip(SHORT, recorded(name)["cut_dimensions"], strict=True):
        options = f", dimensions => {len(expected)}, normalized => true"
        vector = encode(models, TEXTS[text], name, options)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=tolerance(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_text_can_be_cut_on_the_left(models: psycopg.Connection, name: str) -> None:
    for kind, expected in zip(("3000 words", *SOME), recorded(name)["cut_left"], strict=True):
        vector = encode(models, TEXTS[kind], name, ", truncate => 'left'")
        np.testing.assert_allclose(vector, expected, rtol=0, atol=tolerance(name), err_msg=kind)


@pytest.mark.parametrize(("side", "reading"), [("right", "long"), ("left", "long_cut_left")])
@pytest.mark.parametrize("name", ONE_OF_EACH_TOKENIZER)
def test_of_a_very_long_text_only_the_near_end_counts(
    models: psycopg.Connection, name: str, side: str, reading: str
) -> None:
    for (kind, text), expected in zip(LONG.items(), recorded(name)[reading], strict=True):
        vector = encode(models, text, name, f", truncate => '{side}'")
        np.testing.assert_allclose(vector, expected, rtol=0, atol=tolerance(name), err_msg=kind)


@pytest.mark.parametrize("size", ["paper", "odd", "single"])
@pytest.mark.parametrize("name", tiny_models.ENCODERS)
def test_the_bare_encoder_equals_pytorch(models: psycopg.Connection, name: str, size: str) -> None:
    arrays = recorded(name)
    tensor, sql = arrays[f"input_{size}"].tolist(), "select encode_tensor(%s::real[], %s)"
    [[output]] = models.execute(sql, (tensor, name)).fetchall()
    np.testing.assert_allclose(output, arrays[f"output_{size}"], rtol=0, atol=tolerance(name))

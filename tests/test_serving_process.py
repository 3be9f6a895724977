"""The serving process beside a real server: the same vectors, and nothing lost when it goes."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from serving_process import Serving, serving, set_executor

from pageformer.cluster import Cluster

QUERY = "select pageformer.encode(%s, 'minilm')::text"
TEXTS = ["a", "which function rounds down?", "a much longer text " * 30]


@pytest.fixture(scope="module")
def process(cluster: Cluster, minilm: str) -> Iterator[Serving]:
    with serving(cluster, minilm) as running:
        yield running


@pytest.fixture(params=["serve", "auto"])
def executor(request: pytest.FixtureRequest, minilm: str) -> Iterator[str]:
    set_executor(minilm, request.param)
    yield request.param
    set_executor(minilm, "backend")


@pytest.fixture
def session(minilm: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(minilm, autocommit=True) as session:
        yield session


def test_it_says_what_it_serves(process: Serving) -> None:
    assert process.said.startswith("serving database minilm on ")


def test_vectors_are_those_of_the_backend(
    process: Serving, session: psycopg.Connection[Any], minilm: str
) -> None:
    own = [session.execute(QUERY, [text]).fetchone() for text in TEXTS]
    set_executor(minilm, "serve")
    try:
        assert [session.execute(QUERY, [text]).fetchone() for text in TEXTS] == own
    finally:
        set_executor(minilm, "backend")

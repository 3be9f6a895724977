"""A long call stops when PostgreSQL says so, and the connection goes on as before."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

# What each of these takes when nobody stops it: minutes.
ENDLESS = {
    "encode_batch": "select pageformer.encode_batch("
    "array(select repeat('a long text ', 60) || i from generate_series(1, 20000) i), 'minilm')",
    "encode, row by row": "select pageformer.encode(repeat('a long text ', 60) || i, 'minilm')"
    " from generate_series(1, 20000) i",
    "count_tokens": "select pageformer.count_tokens(repeat('a long text ', 20000000), 'minilm')",
    "tokenize": "select count(*) from pageformer.tokenize("
    "repeat('a long text ', 20000000), 'minilm')",
}
SOON = 10.0  # seconds: not a measure of speed, but a guard; uncancelled, these take minutes


@pytest.fixture
def session(minilm: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(minilm, autocommit=True) as session:
        session.execute("select pageformer.preload('minilm'), pageformer.encode('a', 'minilm')")
        yield session


def vector(session: psycopg.Connection) -> object:
    return session.execute("select pageformer.encode('a', 'minilm')::text").fetchone()


@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS)
def test_statement_timeout_stops_a_long_call(session: psycopg.Connection, query: str) -> None:
    before = vector(session)
    session.execute("set statement_timeout = '500ms'")
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
        session.execute(query)
    assert time.monotonic() - began < 0.5 + SOON
    session.execute("reset statement_timeout")
    assert vector(session) == before


@pytest.mark.parametrize("query", ENDLESS.values(), ids=ENDLESS)
def test_a_cancel_stops_a_long_call(session: psycopg.Connection, query: str) -> None:
    before = vector(session)
    asked: list[float] = []

    def cancel() -> None:
        asked.append(time.monotonic())
        session.cancel_safe(timeout=5)

    timer = threading.Timer(0.5, cancel)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled, match="user request"):
        session.execute(query)
    assert time.monotonic() - asked[0] < SOON
    timer.join()
    assert vector(session) == before


def test_a_terminated_connection_ends_in_the_middle_of_a_call(
    session: psycopg.Connection, minilm: str
) -> None:
    process = session.info.backend_pid
    with psycopg.connect(minilm, autocommit=True) as other:

        def terminate() -> None:
            other.execute("select pg_terminate_backend(%s)", [process])

        timer = threading.Timer(0.5, terminate)
        timer.start()
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute(ENDLESS["encode_batch"])
        timer.join()
        assert vector(other)


def test_a_call_is_not_stopped_by_a_signal_that_asks_for_something_else(
    session: psycopg.Connection, minilm: str
) -> None:
    query = (
        "select pageformer.encode_batch("
        "array(select repeat('a text ', 40) || i from generate_series(1, 30) i), 'minilm')::text"
    )
    before = session.execute(query).fetchone()
    with psycopg.connect(minilm, autocommit=True) as other:

        def ask() -> None:
            other.execute("select pg_log_backend_memory_contexts(%s)", [session.info.backend_pid])

        timer = threading.Timer(0.1, ask)
        timer.start()
        assert session.execute(query).fetchone() == before
        timer.join()

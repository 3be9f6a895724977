"""A load whose process or server dies in the middle leaves nothing, and can be repeated."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tiny_models import write
from tuned_models import tune

from pageformer.cluster import Cluster
from pageformer.loader.load import load
from pageformer.loader.sharing import Sharing

TABLES = ("asset", "model", "version", "tensor", "block", "page", "placement", "deduplication")

# Loads until most pages have been sent, says so, and waits to be killed.
LOADER = """
import sys, time, psycopg
from pageformer.loader.load import load

def stop(done, total):
    if done > 0.8 * total:
        print("in the middle", flush=True)
        time.sleep(600)

with psycopg.connect(sys.argv[1]) as connection:
    load(connection, sys.argv[2], name="m", progress=stop)
"""

# Loads as differences until it would take one step of Tables, says so, and waits to be killed.
DELTA_LOADER = """
import sys, time, psycopg
from pageformer.loader.load import load
from pageformer.loader.sharing import Sharing
from pageformer.loader.tables import Tables

def stop(*arguments):
    print("in the middle", flush=True)
    time.sleep(600)

setattr(Tables, sys.argv[3], stop)
with psycopg.connect(sys.argv[1]) as connection:
    load(connection, sys.argv[2], name="m", sharing=Sharing("delta"))
"""


@contextmanager
def loader_in_the_middle(
    dsn: str, source: Path, script: str = LOADER, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a load in a process of its own and return when it says where it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, dsn, str(source), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "in the middle\n"
            yield process
        finally:
            process.kill()


def visible_rows(dsn: str) -> dict[str, int]:
    with psycopg.connect(dsn) as connection:
        return {
            table: connection.execute(
                f"select count(*) from pageformer.{table}".encode()
            ).fetchall()[0][0]
            for table in TABLES
        }


def pages_on_disk(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select pg_total_relation_size('pageformer.page')").fetchone()
        assert row is not None
        return int(row[0])


def wait_until_alone(dsn: str) -> None:
    """Wait until the server has noticed that the loader is gone."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(600):
            others = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and backend_type = 'client backend' and pid <> pg_backend_pid()"
            ).fetchall()[0][0]
            if not others:
                return
            time.sleep(0.05)
    raise TimeoutError("the killed loader's connection is still there")


def load_again(dsn: str, source: Path) -> None:
    with psycopg.connect(dsn) as connection:
        loaded = load(connection, source, name="m")
    assert (loaded.version, loaded.unchanged, loaded.deployed) == ("v1", False, True)
    assert loaded.new_blocks == loaded.blocks


def test_a_killed_loader_leaves_nothing_and_the_load_can_be_repeated(
    database: str, minilm_dir: Path
) -> None:
    with loader_in_the_middle(database, minilm_dir) as process:
        assert pages_on_disk(database) > 1 << 20
        assert set(visible_rows(database).values()) == {0}
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until_alone(database)
        assert set(visible_rows(database).values()) == {0}
    load_again(database, minilm_dir)


@pytest.mark.parametrize("step", ["lock", "insert_version", "insert_outcome"])
def test_a_killed_delta_load_leaves_nothing_and_can_be_repeated(
    database: str, tmp_path: Path, step: str
) -> None:
    base = write("bert-mean", tmp_path)
    tuned = tune(base, tmp_path / "tuned")
    with psycopg.connect(database) as connection:
        load(connection, base, name="base")
    before = visible_rows(database)
    with loader_in_the_middle(database, tuned, DELTA_LOADER, step) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until_alone(database)
    assert visible_rows(database) == before
    with psycopg.connect(database) as connection:
        loaded = load(connection, tuned, name="m", sharing=Sharing("delta"))
        connection.execute("select pageformer.verify('m')")
    assert (loaded.version, loaded.unchanged, loaded.deployed) == ("v1", False, True)
    assert loaded.outcome is not None
    assert loaded.outcome.delta > 0
    assert visible_rows(database)["deduplication"] == 1


@pytest.mark.parametrize("victim", ["backend", "server"])
def test_a_killed_server_leaves_nothing_and_the_load_can_be_repeated(
    own_cluster: Cluster, minilm_dir: Path, victim: str
) -> None:
    dsn = own_cluster.dsn
    with loader_in_the_middle(dsn, minilm_dir):
        if victim == "backend":
            kill_loading_backend(dsn)
        else:
            kill_server(own_cluster)
            own_cluster.start(own_cluster.site)
        wait_for_server(dsn)
        assert set(visible_rows(dsn).values()) == {0}
        load_again(dsn, minilm_dir)


def kill_loading_backend(dsn: str) -> None:
    """Kill the backend that loads, and wait until the server has cut every connection for it."""
    with closing(psycopg.connect(dsn, autocommit=True)) as witness:
        (pid,) = witness.execute(
            "select pid from pg_stat_activity where query like 'copy pageformer.page%'"
        ).fetchall()[0]
        os.kill(pid, signal.SIGKILL)
        with suppress(psycopg.OperationalError):
            for _ in range(600):
                witness.execute("select pg_sleep(0.05)")
            raise TimeoutError("the server does not notice")


def kill_server(cluster: Cluster) -> None:
    """Kill the postmaster and every process that it started, and wait until they are gone."""
    postmaster = int((cluster.data_directory / "postmaster.pid").read_text().split()[0])
    pids = [postmaster, *children(postmaster)]
    assert len(pids) > 1
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for _ in range(600):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.05)
    raise TimeoutError("nobody collects the killed processes")


def children(parent: int) -> list[int]:
    """Find the processes whose parent, the second field behind the name in brackets, is this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def wait_for_server(dsn: str) -> None:
    for _ in range(600):
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server does not come back")

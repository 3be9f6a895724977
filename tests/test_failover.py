"""A primary is killed while clients encode: they go on with a standby, to the same vectors."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from temporary_cluster import temporary_cluster
from test_standby import catch_up, load_model, query, vectors

from pageformer.cluster import Cluster, private_folder
from pageformer.installed_server import server_account
from pageformer.migrations import install

DATABASE = {"dbname": "pageformer", "user": "postgres"}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Cluster]]:
    """A primary and two standbys, each of which follows whichever of the three is the primary."""
    with ExitStack() as stack:
        primary = stack.enter_context(temporary_cluster())
        query(primary, "create database pageformer", database="postgres")
        # What has not reached the log yet would be missing from where `catch_up` waits for.
        query(primary, "alter role postgres set synchronous_commit = on", database="postgres")
        install.upgrade(primary.dsn)
        load_model(primary, "bert-mean", "tiny", tmp_path)
        query(primary, "create table doc (id serial, body text, embedding vector)")
        standbys = [stack.enter_context(temporary_cluster()) for _ in range(2)]
        for standby in standbys:
            copy(primary, standby, hosts([primary, *standbys]))
        yield [primary, *standbys]


def copy(primary: Cluster, standby: Cluster, hosts: str) -> None:
    """Make a cluster a standby, by the commands of docs/scaling.md."""
    standby.stop()
    shutil.rmtree(standby.data_directory)
    private_folder(standby.data_directory)
    subprocess.run(
        [primary.bin / "pg_basebackup", "--write-recovery-conf", "--checkpoint=fast",
         f"--pgdata={standby.data_directory}", f"--dbname={primary.dsn}"],
        check=True, cwd="/", **server_account(),
    )  # fmt: skip
    standby.start(standby.site)
    follows = make_conninfo(host=hosts, user="postgres", target_session_attrs="read-write")
    query(standby, f"alter system set primary_conninfo = '{follows}'")
    query(standby, "select pg_reload_conf()")


def hosts(servers: list[Cluster]) -> str:
    return ",".join(str(server.socket_folder) for server in servers)


class Client(threading.Thread):
    """Ask again and again, connecting anew when the server is gone."""

    def __init__(self, servers: list[Cluster], wanted: str, statement: str) -> None:
        super().__init__()
        self._dsn = make_conninfo(host=hosts(servers), target_session_attrs=wanted, **DATABASE)
        self._statement = statement
        self.answers: list[Any] = []
        self.lost = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as session:
                    while not self.stopping.is_set():
                        self.answers += session.execute(self._statement.encode()).fetchall()
            except psycopg.OperationalError:
                self.lost += 1
                time.sleep(0.05)

    def goes_on(self) -> None:
        """Wait for ten more answers."""
        enough = len(self.answers) + 10
        deadline = time.monotonic() + 60
        while len(self.answers) < enough:
            assert self.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_clients_go_on_after_the_primary_was_killed(servers: list[Cluster], tmp_path: Path) -> None:
    primary, heir, other = servers
    before = vectors(primary, "tiny")
    encode = "select pageformer.encode('a text', 'tiny')::text"
    write = (
        "insert into doc (body, embedding) values ('a text', pageformer.encode('a text', 'tiny')) "
        "returning embedding::text"
    )
    clients = [Client(servers, "any", encode), Client(servers, "prefer-standby", encode)]
    writer = Client(servers, "read-write", write)
    for client in (*clients, writer):
        client.start()
    try:
        for client in (*clients, writer):
            client.goes_on()
        postmaster = (primary.data_directory / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGKILL)
        assert query(heir, "select pg_promote()") == [(True,)]
        for client in (*clients, writer):
            client.goes_on()
    finally:
        for client in (*clients, writer):
            client.stopping.set()
        for client in (*clients, writer):
            client.join()
    assert writer.lost >= 1
    assert len({answer for client in (*clients, writer) for answer in client.answers}) == 1
    assert vectors(heir, "tiny") == vectors(other, "tiny") == before
    catch_up(heir, other)
    assert query(other, "select count(*) from doc") == query(heir, "select count(*) from doc")
    load_model(heir, "bert-cased", "after", tmp_path)
    catch_up(heir, other)
    assert vectors(other, "after") == vectors(heir, "after")

"""The user's own cluster, brought up: server, database, everything that encode() needs.

Everything here may be run again: what is as it should be is left alone, and after a checkout
changed, the server gets the new sources and the database the new SQL.
"""

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable

from psycopg import sql

from pageformer import client, server_python
from pageformer.cluster import Cluster

DATABASE = "pageformer"
PASSWORD_VARIABLE = "PAGEFORMER_PASSWORD"

Say = Callable[[str], None]


def bring_up(cluster: Cluster, say: Say, listen: str = "") -> None:
    """Prepare everything and start the server; `say` is told each step that was needed."""
    with cluster.lock():
        if not cluster.exists:
            say(f"making a cluster in {cluster.home}")
        cluster.initialise()
        site = server_python.refresh(cluster.home / "site", cluster.bin)
        if cluster.start(site, listen):
            say("started the server")
        server_python.remove_others(site)
        prepare_database(cluster, say)


def stay(cluster: Cluster) -> None:
    """Wait until this process is told to end, then stop the server: for containers."""
    endings = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    while cluster.running and signal.sigtimedwait(endings, 1) is None:
        pass
    cluster.stop()


def destroy(cluster: Cluster) -> None:
    """Stop the server and remove everything in the cluster's home."""
    cluster.stop("immediate")
    cluster.remove_page_cache()
    if cluster.socket_folder.exists():
        shutil.rmtree(cluster.socket_folder)
    shutil.rmtree(cluster.home)


def prepare_database(cluster: Cluster, say: Say) -> None:
    """Make the database, and install Pageformer unless these very files were installed before."""
    with client.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        _set_password(connection)
        if not client.rows(connection, "database_exists", [DATABASE])[0]["found"]:
            _create_database(connection)
    with client.connect(cluster.dsn, autocommit=True) as connection:
        if client.rows(connection, "installed")[0]["fingerprint"] == sql_fingerprint():
            return
    say("installing the tables and functions")
    _install(cluster)


def _install(cluster: Cluster) -> None:
    """Install, and note what was installed in the database's settings: it goes when that goes."""
    from pageformer.migrations import install

    install.upgrade(cluster.dsn)
    with client.connect(cluster.dsn, autocommit=True) as connection:
        statement = sql.SQL("alter database {} set pageformer.installed = {}")
        fingerprint = sql.Literal(sql_fingerprint())
        connection.execute(statement.format(sql.Identifier(DATABASE), fingerprint))


def sql_fingerprint() -> str:
    """Name the state of everything that is installed in a database."""
    digest = hashlib.sha256()
    for folder in (files("pageformer.migrations"), files("pageformer.udfs").joinpath("sql")):
        _digest(folder, digest.update)
    return digest.hexdigest()


def _digest(folder: Traversable, update: Callable[[bytes], None]) -> None:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            _digest(entry, update)
        elif entry.name.endswith((".py", ".sql")):
            update(f"{entry.name}\0".encode() + hashlib.sha256(entry.read_bytes()).digest())


def _create_database(connection: client.Connection) -> None:
    """Make the database; there, `encode` is found without its schema."""
    name = sql.Identifier(DATABASE)
    connection.execute(sql.SQL("create database {}").format(name))
    path = sql.SQL('alter database {} set search_path = "$user", public, pageformer')
    connection.execute(path.format(name))


def _set_password(connection: client.Connection) -> None:
    """Give the superuser the password that the environment asks for: the network wants one."""
    if password := os.environ.get(PASSWORD_VARIABLE):
        statement = sql.SQL("alter role postgres password {}")
        connection.execute(statement.format(sql.Literal(password)))

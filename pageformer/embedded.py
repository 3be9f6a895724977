"""The user's own cluster, brought up: server, database, everything that encode() needs.

Everything here may be run again: what is as it should be is left alone, and after a checkout
changed, the server gets the new sources and the database the new SQL.
"""

import hashlib
import os
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import psycopg
from platformdirs import user_data_path
from psycopg import sql

from pageformer import server_python
from pageformer.cluster import Cluster

DATABASE = "pageformer"
PASSWORD_VARIABLE = "PAGEFORMER_PASSWORD"

Say = Callable[[str], None]


def embedded() -> Cluster:
    """Return the user's own cluster: $PAGEFORMER_HOME, else the platform's place for such data."""
    if chosen := os.environ.get("PAGEFORMER_HOME"):
        return Cluster(Path(chosen).absolute())
    if os.geteuid() == 0:
        return Cluster(Path("/var/lib/pageformer"))
    return Cluster(user_data_path("pageformer"))


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


def prepare_database(cluster: Cluster, say: Say) -> None:
    """Make the database, and install Pageformer unless these very files were installed before."""
    from pageformer.migrations import install

    with psycopg.connect(cluster.dsn_of("postgres"), autocommit=True) as connection:
        _set_password(connection)
        if not _database_exists(connection):
            _create_database(connection)
        if _installed(connection) == sql_fingerprint():
            return
        say("installing the tables and functions")
        install.upgrade(cluster.dsn)
        _remember_installed(connection)


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


def _database_exists(connection: psycopg.Connection) -> bool:
    query = "select from pg_catalog.pg_database where datname = %s"
    return connection.execute(query, [DATABASE]).fetchone() is not None


def _create_database(connection: psycopg.Connection) -> None:
    """Make the database; there, `encode` is found without its schema."""
    name = sql.Identifier(DATABASE)
    connection.execute(sql.SQL("create database {}").format(name))
    path = sql.SQL('alter database {} set search_path = "$user", public, pageformer')
    connection.execute(path.format(name))


def _installed(connection: psycopg.Connection) -> str | None:
    """Read what was installed from the database's own settings: it goes when the database goes."""
    query = """
        select pg_catalog.substr(setting, pg_catalog.length('pageformer.installed=') + 1)
        from pg_catalog.pg_db_role_setting s
        join pg_catalog.pg_database d on d.oid = s.setdatabase
        cross join pg_catalog.unnest(s.setconfig) setting
        where d.datname = %s and s.setrole = 0 and setting like 'pageformer.installed=%%'
    """
    row = connection.execute(query, [DATABASE]).fetchone()
    return row[0] if row else None


def _remember_installed(connection: psycopg.Connection) -> None:
    statement = sql.SQL("alter database {} set pageformer.installed = {}")
    connection.execute(statement.format(sql.Identifier(DATABASE), sql.Literal(sql_fingerprint())))


def _set_password(connection: psycopg.Connection) -> None:
    """Give the superuser the password that the environment asks for: the network wants one."""
    if password := os.environ.get(PASSWORD_VARIABLE):
        statement = sql.SQL("alter role postgres password {}")
        connection.execute(statement.format(sql.Literal(password)))

"""Connections from the command line: to which server, and how their errors read."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import InvalidSchemaName, UndefinedTable
from psycopg.rows import DictRow, dict_row

from pageformer.cluster import embedded
from pageformer.errors import ServerUnready
from pageformer.installed_server import bin_folder
from pageformer.udfs import named_queries

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")
QUERIES = named_queries.read("pageformer", "queries.sql")

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[Any]


def choose_dsn(dsn: str | None) -> str:
    """Return the connection string to use: the given one, else libpq's environment, else ours.

    Raises ServerUnready when it would be the embedded cluster and that has not been made.
    """
    if dsn is not None:
        return dsn
    if chosen_by_environment():
        return ""
    cluster = embedded()
    if not cluster.exists:
        raise ServerUnready(f"there is no cluster in {cluster.home}", hint="pageformer up")
    return cluster.dsn


def chosen_by_environment() -> list[str]:
    """Name the variables of the environment that choose a server."""
    return [name for name in LIBPQ_VARIABLES if os.environ.get(name)]


def connect(dsn: str | None = None, *, autocommit: bool = False) -> Connection:
    """Connect to the server that `choose_dsn` names.

    Raises ServerUnready when it does not answer.
    """
    chosen = choose_dsn(dsn)
    try:
        return psycopg.connect(
            make_conninfo(chosen, application_name="pageformer"),
            autocommit=autocommit,
            cursor_factory=psycopg.RawCursor,
        )
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise ServerUnready(reason, hint=_how_to_reach(dsn)) from error


def place_of(dsn: str) -> str:
    """Tell host and database of a connection string, without its password."""
    parts = conninfo_to_dict(dsn)
    return f"{parts.get('host', 'local')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def rows(connection: Connection, name: str, arguments: Sequence[object] = ()) -> list[DictRow]:
    """Run the query `name` of queries.sql and return its rows by column name."""
    return fetch(connection, QUERIES[name], arguments)


def fetch(connection: Connection, query: str, arguments: Sequence[object] = ()) -> list[DictRow]:
    """Run a query with `$1` parameters and return its rows by column name.

    Raises ServerUnready when the query misses our schema.
    """
    with psycopg.RawCursor(connection, row_factory=dict_row) as cursor, needs_pageformer():
        cursor.execute(query.encode(), arguments)
        return cursor.fetchall()


def run(connection: Connection, name: str, arguments: Sequence[object] = ()) -> None:
    """Run the statement `name` of queries.sql.

    Raises ServerUnready when it misses our schema.
    """
    with needs_pageformer():
        connection.execute(QUERIES[name], arguments)


@contextmanager
def needs_pageformer() -> Iterator[None]:
    """Tell a missing schema as what it means."""
    try:
        yield
    except (InvalidSchemaName, UndefinedTable) as error:
        raise ServerUnready(
            "Pageformer is not installed in this database", hint="pageformer migrate"
        ) from error


def open_psql(dsn: str | None, arguments: Sequence[str]) -> NoReturn:
    """Become psql, connected to the server that `choose_dsn` names."""
    program = shutil.which("psql") or str(bin_folder() / "psql")
    os.execv(program, [program, f"--dbname={choose_dsn(dsn)}", *arguments])


def _how_to_reach(dsn: str | None) -> str:
    if dsn is not None:
        return "see that the server runs and that --dsn names it"
    if named := chosen_by_environment():
        return f"the environment chose this server: {', '.join(named)}"
    return "pageformer up"

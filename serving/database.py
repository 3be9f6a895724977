"""A database whose weights a process of its own computes with, met only where some must be read."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from pageformer.errors import MissingGrant, ServerUnready
from pageformer.udfs import named_queries, threads
from pageformer.udfs.page_cache.cache import PageCache
from pageformer.udfs.page_cache.room import limit_of, policy_of
from pageformer.udfs.version import Rows, Version, read_blocks, read_page

with threads.kept_out():
    from pageformer.udfs.tasks import opening

QUERIES = named_queries.read("pageformer.udfs", "queries.sql")
ROLE = "set role pageformer_reader"
SECONDS_TO_CONNECT = 5


@dataclass(frozen=True)
class Place:
    """Hold where backends look for the process, and what the owner set."""

    database: int
    name: str
    data_directory: str
    backend: str
    cache_folder: str
    cache_limit: str
    cache_policy: str


class Database:
    """Read weights as a member of pageformer_reader, over a connection for each time."""

    def __init__(self, dsn: str, application: str = "pageformer serve") -> None:
        self._dsn = make_conninfo(
            dsn, application_name=application, connect_timeout=SECONDS_TO_CONNECT
        )

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Connect, and run queries of udfs/queries.sql in a snapshot that stays the same.

        Raises ServerUnready and MissingGrant.
        """
        try:
            with self._connect() as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True

                def rows(name: str, *arguments: object) -> list[dict[str, Any]]:
                    cursor = psycopg.RawCursor(connection, row_factory=dict_row)
                    with cursor:
                        return cursor.execute(QUERIES[name].encode(), arguments).fetchall()

                yield rows
        except psycopg.OperationalError as error:
            raise ServerUnready(f"the database does not answer: {one_line(error)}") from error

    def place(self) -> Place:
        """Ask where to listen.

        Raises ServerUnready when Pageformer is not installed there, or an older one is.
        """
        with self.reading() as rows:
            try:
                [found] = rows("serving_place")
            except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
                raise ServerUnready(
                    "this Pageformer is not installed in the database", hint="pageformer migrate"
                ) from error
            return Place(**found)

    def cache(self, place: Place, rows: Rows) -> PageCache:
        """Return the page cache that all backends of the cluster share."""
        return PageCache(
            place.cache_folder,
            place.data_directory,
            lambda page: read_page(rows, page),
            lambda: None,
            lambda message: None,
            lambda names: read_blocks(rows, names),
            limit_of(place.cache_limit),
            policy_of(place.cache_policy),
        )

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._dsn, autocommit=True)
        try:
            connection.execute(ROLE)
            connection.autocommit = False
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
            connection.close()
            raise MissingGrant(
                "this role may not read weights",
                hint="grant pageformer_reader to it, or connect as another with --dsn",
            ) from error
        return connection


class Reader:
    """Run queries over a connection that is there while work is done that may need it.

    Work may come again later: a version that does not fit into the page cache reads its layers one
    after another.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.RLock()
        self._rows: Rows | None = None

    def __call__(self, name: str, *arguments: object) -> list[dict[str, Any]]:
        """Run a query of udfs/queries.sql."""
        if self._rows is None:
            raise ServerUnready("this is read while `during` runs only")
        return self._rows(name, *arguments)

    def during(self, work: Callable[[], Any]) -> Any:
        """Do some work that may read."""
        with self._lock:
            if self._rows is not None:
                return work()
            with self._database.reading() as self._rows:
                try:
                    return work()
                finally:
                    self._rows = None


class NotThere(Exception):
    """No such version, or task, is committed."""


def open_version(
    database: Database, place: Place, hash: bytes, backend: str, compute: str
) -> Version:
    """Open the version of a hash, ready to encode; raise NotThere where there is none."""
    reader = Reader(database)

    def work() -> Version:
        found = reader("version_of_hash", hash)
        if not found:
            raise NotThere("no such version is committed")
        cache = database.cache(place, reader)
        version = Version(reader, found[0]["id"], cache, backend, compute, reader.during)
        version.encoder.alone()  # made now, while rows can be read
        return version

    opened: Version = reader.during(work)
    return opened


def open_task(database: Database, version: Version, hash: bytes) -> opening.OpenTask:
    """Open a task of a version that is open; raise NotThere where there is none."""
    with database.reading() as rows:
        found = rows("task_of_hash", version.hash, hash)
        if not found:
            raise NotThere("no such task is committed")
        return opening.opened(rows, version, found[0]["id"])


def one_line(error: Exception) -> str:
    """Write an error's message in one line."""
    return " ".join(str(error).split())

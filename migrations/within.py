"""Install Pageformer within a transaction, and a search_path, that belong to somebody else."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from pageformer.migrations import install, parts, runs
from pageformer.migrations.script import execute

KEEP_PATH = "select pg_catalog.current_setting('search_path')"
SET_PATH = "select pg_catalog.set_config('search_path', %s, true)"


def upgrade(connection: Connection) -> None:
    """Bring the database to the library's newest revision, as `install.upgrade` does."""
    with kept_search_path(connection):
        install.bring_up(connection)


def uninstall(connection: Connection) -> None:
    """Take everything out again; raises what the server says when others depend on it."""
    with kept_search_path(connection):
        execute(connection, "set constraints all immediate")  # a model may have just been dropped
        install.take_out(connection)


def offline_sql() -> str:
    """Write what `upgrade` does for an empty database, for a script with a transaction around."""
    written = [parts.script("prepare.sql"), runs.as_sql(), parts.surface()]
    return "\n".join([*written, "set local search_path to default;"])


@contextmanager
def kept_search_path(connection: Connection) -> Iterator[None]:
    """Leave the search_path of the transaction as it was: the scripts set one."""
    path = connection.exec_driver_sql(KEEP_PATH).scalar_one()
    yield
    connection.exec_driver_sql(SET_PATH, (path,))

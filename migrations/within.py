"""Install Pageformer within a transaction, and an Alembic run, that belong to somebody else.

Alembic's `context` and `op` are globals of the process, and a user's revision is using them: the
library's own revisions get a context of their own, and `op` is handed back afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from alembic import op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from pageformer.migrations import install
from pageformer.migrations.script import execute

KEEP_PATH = "select pg_catalog.current_setting('search_path')"
SET_PATH = "select pg_catalog.set_config('search_path', %s, true)"


def upgrade(connection: Connection) -> None:
    """Bring the database to the library's newest revision, as `install.upgrade` does."""
    with kept_search_path(connection):
        execute(connection, install.script("prepare.sql"))
        _run(connection, "head", up=True)
        execute(connection, install.surface())


def uninstall(connection: Connection) -> None:
    """Take everything out again; raises what the server says when others depend on it."""
    with kept_search_path(connection):
        execute(connection, "set constraints all immediate")  # a model may have just been dropped
        execute(connection, install.script("drop_surface.sql"))
        _run(connection, "base", up=False)
        execute(connection, install.script("drop_schemas.sql"))
        execute(connection, install.script("drop_shared.sql"))


def offline_sql() -> str:
    """Write what `upgrade` does for an empty database, for a script with a transaction around."""
    output = StringIO()
    options = {"as_sql": True, "output_buffer": output, "transactional_ddl": False}
    context = _context("head", up=True, dialect_name="postgresql", options=options)
    with _operations(context):
        context.run_migrations()
    parts = [install.script("prepare.sql"), output.getvalue(), install.surface()]
    return "\n".join([*parts, "set local search_path to default;"])


def revisions() -> ScriptDirectory:
    """Return the library's revisions."""
    return ScriptDirectory.from_config(install.alembic_config(StringIO()))


def _run(connection: Connection, destination: str, *, up: bool) -> None:
    context = _context(destination, up=up, connection=connection)
    with _operations(context):
        context.run_migrations()


def _context(
    destination: str, *, up: bool, options: dict[str, Any] | None = None, **where: Any
) -> MigrationContext:
    script = revisions()
    go: Callable[..., Any] = script._upgrade_revs if up else script._downgrade_revs
    return MigrationContext.configure(
        **where,
        opts={
            "version_table": "alembic_version",
            "version_table_schema": "pageformer",
            "script": script,
            "fn": lambda revision, context: go(destination, revision),
            **(options or {}),
        },
    )


@contextmanager
def _operations(context: MigrationContext) -> Iterator[None]:
    """Let `op` work on `context` for a while, then on what it worked on before."""
    outer = getattr(op, "_proxy", None)
    operations = Operations(context)
    operations._install_proxy()
    try:
        yield
    finally:
        operations._remove_proxy()
        if outer is not None:
            outer._install_proxy()


@contextmanager
def kept_search_path(connection: Connection) -> Iterator[None]:
    """Leave the search_path of the transaction as it was: the scripts set one."""
    path = connection.exec_driver_sql(KEEP_PATH).scalar_one()
    yield
    connection.exec_driver_sql(SET_PATH, (path,))

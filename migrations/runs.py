"""Run the library's own revisions, on a connection or as SQL.

Alembic's `context` and `op` are globals of the process, and a user's revision may be using them:
our revisions get a context of their own, and `op` is handed back afterwards. Their version table
stands in schema pageformer, apart from the one of a user's own project.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import op
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from pageformer.errors import ServerUnready

ONE_AT_A_TIME = Lock()  # since `op` is one for all threads


def revisions() -> ScriptDirectory:
    """Return the library's revisions."""
    return ScriptDirectory(Path(__file__).parent)


def newest() -> str:
    """Name the last revision."""
    return revisions().get_current_head() or ""


def up(connection: Connection, destination: str) -> None:
    """Run the revisions up to `destination`."""
    _run(connection, destination, up=True)


def down(connection: Connection, destination: str) -> None:
    """Take the revisions after `destination` back."""
    _run(connection, destination, up=False)


def as_sql(start: str | None = None, destination: str = "head") -> str:
    """Write what the revisions after `start` do, all of them without one."""
    output = StringIO()
    options = {
        "as_sql": True, "output_buffer": output, "transactional_ddl": False, "starting_rev": start,
    }  # fmt: skip
    context = _context(destination, up=True, dialect_name="postgresql", options=options)
    with _operations(context):
        context.run_migrations()
    return output.getvalue()


def _run(connection: Connection, destination: str, *, up: bool) -> None:
    """Raise ServerUnready when the database is at a revision that this package does not know."""
    context = _context(destination, up=up, connection=connection)
    try:
        with _operations(context):
            context.run_migrations()
    except CommandError as error:
        raise ServerUnready(
            f"cannot migrate this database: {error}",
            hint="a newer Pageformer may have migrated it: install that one here as well",
        ) from error


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
    with ONE_AT_A_TIME:
        outer = getattr(op, "_proxy", None)
        operations = Operations(context)
        operations._install_proxy()
        try:
            yield
        finally:
            operations._remove_proxy()
            if outer is not None:
                outer._install_proxy()

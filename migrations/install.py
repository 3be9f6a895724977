"""Install Pageformer into a database, and take it out again.

An install is one transaction: `sql/prepare.sql` (what must be there), the Alembic revisions
(tables, once and in order), then `udfs/sql/*.sql` (views and functions, replaced every time) and
`sql/privileges.sql`. A database that has Pageformer by `create extension` keeps it that way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg.errors import DependentObjectsStillExist, InvalidSchemaName
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from pageformer.client import connect
from pageformer.errors import ObjectsInUse, PageformerError, RefusedByServer, ServerUnready
from pageformer.migrations import extension, parts, runs
from pageformer.migrations.script import execute

Note = Callable[[str], None]


def upgrade(dsn: str, revision: str = "head") -> str | None:
    """Bring the database to `revision` and replace its views and functions; needs a superuser.

    Returns the version of the extension where Pageformer is one.

    Raises RefusedByServer when the role is no superuser or the server lacks an extension, and
    ServerUnready when the server cannot be reached or the database is newer than this package.
    """
    with transaction(dsn) as connection:
        bring_up(connection, revision)
        return extension.present(connection)


def downgrade(dsn: str, revision: str) -> None:
    """Take the revisions after `revision` back, and the views and functions away.

    Raises ObjectsInUse, which names them, when objects of others depend on what would go.
    """
    with transaction(dsn) as connection:
        extension.refuse(connection)
        take_back(connection, revision)


def uninstall(dsn: str, *, force: bool = False, note: Note = lambda text: None) -> None:
    """Leave a database without Pageformer; what others use is kept, and told through `note`.

    `force` drops the views, indexes and defaults that depend on Pageformer; without it they raise
    ObjectsInUse. Extensions and roles go only where nothing uses them.
    """
    with transaction(dsn, note) as connection:
        take_out(connection, force=force)


def offline_sql() -> str:
    """Write the SQL that installs Pageformer into an empty database, for psql."""
    written = [parts.script("prepare.sql"), runs.as_sql(), parts.surface()]
    return "\n".join(["begin;", *written, "commit;\n"])


def bring_up(connection: Connection, revision: str = "head") -> None:
    """Install or renew, in the transaction of whoever calls."""
    if extension.present(connection):
        if revision != "head":
            extension.refuse(connection)
        extension.update(connection)
        return
    execute(connection, parts.script("prepare.sql"))
    runs.up(connection, revision)
    execute(connection, parts.surface())


def take_out(connection: Connection, *, force: bool = False) -> None:
    """Uninstall, in the transaction of whoever calls."""
    if extension.present(connection):
        extension.drop(connection, force=force)
    elif force:
        execute(connection, parts.script("drop_schemas_cascade.sql"))
    else:
        take_back(connection, "base")
        execute(connection, parts.script("drop_schemas.sql"))
    execute(connection, parts.script("drop_shared.sql"))


def take_back(connection: Connection, revision: str) -> None:
    """Drop the views and functions, then go down to `revision`."""
    execute(connection, parts.script("drop_surface.sql"))
    runs.down(connection, revision)


@contextmanager
def transaction(dsn: str, note: Note = lambda text: None) -> Iterator[Connection]:
    """Open one transaction on the database, with PostgreSQL's errors told as ours."""
    engine = create_engine(
        "postgresql+psycopg://", creator=partial(open_connection, dsn, note), poolclass=NullPool
    )
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise translate(error) from error


def open_connection(dsn: str | None, note: Note) -> psycopg.Connection[Any]:
    """Connect with the cursors that SQLAlchemy expects; notices of the server go to `note`."""
    connection = connect(dsn)
    connection.cursor_factory = psycopg.Cursor
    connection.add_notice_handler(lambda diagnostic: note(diagnostic.message_primary or ""))
    return connection


def translate(error: DBAPIError) -> PageformerError:
    """Tell a refusal of the server in one line, with its SQLSTATE."""
    cause = error.orig
    if not isinstance(cause, psycopg.Error) or cause.sqlstate is None:
        return ServerUnready(
            f"the server went away: {str(cause).strip()}",
            hint="nothing was changed; run this again",
        )
    if isinstance(cause, InvalidSchemaName):
        return ServerUnready("Pageformer is not installed in this database")
    if isinstance(cause, DependentObjectsStillExist):
        return ObjectsInUse(
            "others use Pageformer: " + "; ".join((cause.diag.message_detail or "").splitlines()),
            hint="drop these first, or let --force drop them",
        )
    return RefusedByServer(
        cause.diag.message_primary or str(cause),
        hint=cause.diag.message_hint or "",
        detail=cause.diag.message_detail or "",
        sqlstate=cause.sqlstate,
    )

"""Install Pageformer into a database, and take it out again.

An install is one transaction: `sql/prepare.sql` (what must be there), the Alembic revisions
(tables, once and in order), then `udfs/sql/*.sql` (views and functions, replaced every time) and
`sql/privileges.sql`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from io import StringIO
from pathlib import Path
from threading import Lock
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from psycopg.errors import DependentObjectsStillExist, InvalidSchemaName
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from pageformer.client import connect
from pageformer.errors import ObjectsInUse, PageformerError, RefusedByServer, ServerUnready
from pageformer.migrations.script import execute

Note = Callable[[str], None]

# What Alembic runs on, `context` and `op`, are globals of the process.
ONE_AT_A_TIME = Lock()


def upgrade(dsn: str, revision: str = "head") -> None:
    """Bring the database to `revision` and replace its views and functions; needs a superuser.

    Raises RefusedByServer when the role is no superuser or the server lacks an extension, and
    ServerUnready when the server cannot be reached or the database is newer than this package.
    """
    with transaction(dsn) as connection:
        execute(connection, script("prepare.sql"))
        migrate(connection, partial(command.upgrade, revision=revision))
        execute(connection, surface())


def downgrade(dsn: str, revision: str) -> None:
    """Take the revisions after `revision` back, and the views and functions away.

    Raises ObjectsInUse, which names them, when objects of others depend on what would go.
    """
    with transaction(dsn) as connection:
        take_back(connection, revision)


def uninstall(dsn: str, *, force: bool = False, note: Note = lambda text: None) -> None:
    """Leave a database without Pageformer; what others use is kept, and told through `note`.

    `force` drops the views, indexes and defaults that depend on Pageformer; without it they raise
    ObjectsInUse. Extensions and roles go only where nothing uses them.
    """
    with transaction(dsn, note) as connection:
        if force:
            execute(connection, script("drop_schemas_cascade.sql"))
        else:
            take_back(connection, "base")
            execute(connection, script("drop_schemas.sql"))
        execute(connection, script("drop_shared.sql"))


def offline_sql() -> str:
    """Write the SQL that installs Pageformer into an empty database, for psql."""
    output = StringIO()
    command.upgrade(alembic_config(output), "head", sql=True)
    parts = ["begin;", script("prepare.sql"), output.getvalue(), surface(), "commit;"]
    return "\n".join(parts) + "\n"


def surface() -> str:
    """Return the SQL of all views and functions, and of who may use them."""
    folder = files("pageformer.udfs").joinpath("sql")
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".sql")), key=lambda e: e.name)
    texts = [entry.read_text(encoding="utf-8") for entry in entries]
    return "\n".join([*texts, script("privileges.sql")])


def take_back(connection: Connection, revision: str) -> None:
    """Drop the views and functions, then go down to `revision`."""
    execute(connection, script("drop_surface.sql"))
    migrate(connection, partial(command.downgrade, revision=revision))


def migrate(connection: Connection, go: Callable[[Config], None]) -> None:
    """Run an Alembic command on `connection`.

    Raises ServerUnready when the database stands at a revision that this package does not know.
    """
    config = alembic_config(StringIO())
    config.attributes["connection"] = connection
    try:
        go(config)
    except CommandError as error:
        raise ServerUnready(
            f"cannot migrate this database: {error}",
            hint="a newer Pageformer may have migrated it: install that one here as well",
        ) from error


def alembic_config(output: StringIO) -> Config:
    """Point Alembic at this folder, without an .ini file."""
    config = Config(output_buffer=output, stdout=StringIO())
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def script(file: str) -> str:
    """Read a script of `sql/`."""
    return files("pageformer.migrations").joinpath("sql", file).read_text(encoding="utf-8")


@contextmanager
def transaction(dsn: str, note: Note = lambda text: None) -> Iterator[Connection]:
    """Open one transaction on the database, with PostgreSQL's errors told as ours."""
    engine = create_engine(
        "postgresql+psycopg://", creator=partial(open_connection, dsn, note), poolclass=NullPool
    )
    try:
        with ONE_AT_A_TIME, engine.begin() as connection:
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

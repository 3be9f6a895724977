"""What the operations on models do, in a database or as SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from itertools import chain

import psycopg
from alembic.operations import Operations
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from pageformer.client import fetch
from pageformer.errors import NotBuilt, ObjectsInUse, PageformerError, ServerUnready
from pageformer.migrations import install, models, runs, tasks, within
from pageformer.migrations.models import QUERIES, Connection, Content
from pageformer.migrations.operations import (
    DeployModel,
    DeployTask,
    DropModelVersion,
    DropTask,
    GrantModel,
    InstallPageformer,
    LoadModel,
    LoadTask,
    ModelOperation,
    RevokeModel,
    UninstallPageformer,
)


@singledispatch
def run(operation: ModelOperation, operations: Operations) -> None:
    """Do what an operation says, or write it out when Alembic works offline."""
    raise NotBuilt(f"nothing is known of {operation.directive}")


@run.register
def _(wanted: InstallPageformer, operations: Operations) -> None:
    """Install, or leave alone what is new enough."""
    if operations.migration_context.as_sql:
        _write(operations, within.offline_sql())
        return
    with told_by_alembic():
        if wanted.revision not in {known.revision for known in runs.revisions().walk_revisions()}:
            raise ServerUnready(
                f"this Pageformer does not know its revision {wanted.revision}",
                hint="install a newer one",
            )
        if wanted.revision not in _passed(driver(operations)):
            within.upgrade(operations.get_bind())


@run.register
def _(wanted: UninstallPageformer, operations: Operations) -> None:
    """Uninstall, unless there is something to lose."""
    with told_by_alembic():
        if operations.migration_context.as_sql:
            raise ServerUnready(
                "uninstalling is not written as SQL", hint="run: pageformer uninstall"
            )
        left = [row["model"] for row in fetch(driver(operations), QUERIES["models"])]
        if left:
            raise ObjectsInUse(f"models are loaded: {', '.join(left)}", hint="drop them first")
        within.uninstall(operations.get_bind())


@run.register
def _(wanted: LoadModel, operations: Operations) -> None:
    """Load by hash."""
    if operations.migration_context.as_sql:
        _write_query(
            operations, "offline_load",
            source=sql.SQL(wanted.source), model=sql.SQL(wanted.name),
            version=sql.SQL(wanted.version), name=sql.Literal(wanted.name),
            label=sql.Literal(wanted.version), sha256=sql.Literal(wanted.sha256),
        )  # fmt: skip
        return
    content = Content(wanted.name, wanted.version, wanted.source, wanted.sha256)
    with told_by_alembic():
        models.load_content(driver(operations), content)


@run.register
def _(wanted: DropModelVersion, operations: Operations) -> None:
    """Drop by label."""
    _call(operations, "drop", "drop_version", model=wanted.name, version=wanted.version)


@run.register
def _(wanted: DeployModel, operations: Operations) -> None:
    """Deploy by label, into columns that have its dimension."""
    for table, column, dimension, _previous in wanted.resize:
        _resize(operations, table, column, dimension)
    _call(operations, "deploy", "deploy", model=wanted.name, version=wanted.version)


@run.register
def _(wanted: GrantModel, operations: Operations) -> None:
    """Grant by name."""
    _call(operations, "grant", "grant", model=wanted.name, role=wanted.role)


@run.register
def _(wanted: RevokeModel, operations: Operations) -> None:
    """Revoke by name."""
    _call(operations, "revoke", "revoke", model=wanted.name, role=wanted.role)


@run.register
def _(wanted: LoadTask, operations: Operations) -> None:
    """Add by hash."""
    if operations.migration_context.as_sql:
        _write_query(
            operations, "offline_load_task",
            name=sql.SQL(wanted.name), model=sql.SQL(wanted.model),
            arguments=sql.SQL(tasks.arguments(wanted)), version=sql.SQL(wanted.version),
            base=sql.Literal(wanted.model), task=sql.Literal(tasks.pinned(wanted)),
            sha256=sql.Literal(wanted.sha256),
        )  # fmt: skip
        return
    with told_by_alembic():
        tasks.load_content(driver(operations), wanted)


@run.register
def _(wanted: DropTask, operations: Operations) -> None:
    """Drop by label."""
    _call(operations, "drop_task", "drop_task", model=wanted.model, task=tasks.pinned(wanted))


@run.register
def _(wanted: DeployTask, operations: Operations) -> None:
    """Deploy by label."""
    names = {"model": wanted.model, "task": wanted.name, "version": wanted.version}
    _call(operations, "deploy_task", "deploy_task", **names)


def driver(operations: Operations) -> Connection:
    """Return psycopg's connection, in the transaction that Alembic's is in.

    Raises ServerUnready for another driver: pages travel by psycopg's binary COPY.
    """
    connection = operations.get_bind().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise ServerUnready(
            f"models are loaded through psycopg, and this connection is {type(connection)}",
            hint="use postgresql+psycopg:// in sqlalchemy.url",
        )
    if not connection.autocommit:
        connection.execute("select 1")  # psycopg begins; a savepoint is not to be a transaction
    return connection


@contextmanager
def told_by_alembic() -> Iterator[None]:
    """Tell our errors, and PostgreSQL's, as Alembic tells its own: in one line."""
    try:
        yield
    except DBAPIError as error:
        raise _told(install.translate(error)) from error
    except psycopg.Error as error:
        raise CommandError(
            _sentence(error.diag.message_primary, error.diag.message_hint)
        ) from error
    except PageformerError as error:
        raise _told(error) from error


def _told(error: PageformerError) -> CommandError:
    return CommandError(_sentence(error.message, error.hint))


def _sentence(message: str | None, hint: str | None) -> str:
    return f"{message} ({hint})" if hint else str(message)


def _passed(connection: Connection) -> set[str]:
    """Name the library's revisions that the database has passed.

    Raises ServerUnready when it has one that this package does not know.
    """
    if not fetch(connection, QUERIES["library_installed"])[0]["found"]:
        return set()
    current = fetch(connection, QUERIES["library_revision"])
    script = runs.revisions()
    try:
        passed = [script.iterate_revisions(row["revision"], "base") for row in current]
        return {known.revision for known in chain(*passed)}
    except CommandError as error:
        raise ServerUnready(
            f"this database has a newer Pageformer: {error}", hint="install that one here as well"
        ) from error


def _call(operations: Operations, offline: str, query: str, **names: str) -> None:
    if operations.migration_context.as_sql:
        literals = {name: sql.Literal(value) for name, value in names.items()}
        _write_query(operations, f"offline_{offline}", **literals)
        return
    with told_by_alembic():
        fetch(driver(operations), QUERIES[query], list(names.values()))


def _resize(operations: Operations, table: str, column: str, dimension: int) -> None:
    statement = models.resizing(table, column, dimension)
    if operations.migration_context.as_sql:
        _write(operations, statement + ";")
        return
    with told_by_alembic():
        driver(operations).execute(statement.encode())


def _write_query(operations: Operations, query: str, **parts: sql.Composable) -> None:
    _write(operations, sql.SQL(QUERIES[query]).format(**parts).as_string() + ";")


def _write(operations: Operations, text: str) -> None:
    operations.migration_context.impl.static_output(text)

"""What the `env.py` of a project uses: a connection, and a look ahead before a downgrade."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from sqlalchemy import Connection, NullPool, create_engine

from pageformer.migrations import install, models
from pageformer.migrations.differences import installed
from pageformer.migrations.implementations import driver, told_by_alembic
from pageformer.migrations.models import Content


@contextmanager
def connect(dsn: str | None = None) -> Iterator[Connection]:
    """Connect to the server of `dsn`, else of libpq's environment, else to the embedded cluster."""
    open_connection = partial(install.open_connection, dsn, lambda text: None)
    with told_by_alembic():
        engine = create_engine("postgresql+psycopg://", creator=open_connection, poolclass=NullPool)
        with engine.connect() as connection:
            yield connection


def look_ahead(context: MigrationContext) -> None:
    """Check, before a downgrade changes anything, that every model it loads can be had.

    The steps of all revisions are read, not run: each `op.load_model(…)` with literal arguments.
    """
    plan = context._migrations_fn

    def checked(heads: Any, context: MigrationContext) -> Iterable[RevisionStep]:
        steps = list(plan(heads, context)) if plan else []
        wanted = [content for step in steps for content in loaded_by(step)]
        if wanted and not context.as_sql:
            with told_by_alembic():
                connection = driver(Operations(context))
                if installed(connection):
                    models.check_at_hand(connection, wanted)
        return steps

    context._migrations_fn = checked


def loaded_by(step: RevisionStep) -> Iterator[Content]:
    """Read which models the downgrade of a revision loads."""
    if step.is_upgrade or not isinstance(step, RevisionStep):  # a stamp changes no model
        return
    downgrade: Callable[[], None] = step.revision.module.downgrade
    for node in ast.walk(ast.parse(inspect.getsource(downgrade))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "op.load_model":
            given = [ast.literal_eval(value) for value in node.args]
            named = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
            yield Content(*given, **named)

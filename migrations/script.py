"""SQL scripts of a revision, run as they are written.

`op.execute` would read `:name` as a bind parameter, and psycopg `%` as a placeholder; a script
that the driver gets without parameters is sent untouched, however many statements it holds.
"""

from importlib.resources import files

from alembic import op
from sqlalchemy import Connection


def run(file: str) -> None:
    """Run a script of `versions/`, or write it out when Alembic works offline."""
    text = files("pageformer.migrations.versions").joinpath(file).read_text(encoding="utf-8")
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(text)
    else:
        execute(op.get_bind(), text)


def execute(connection: Connection, text: str) -> None:
    """Send a script to the server, parameters and escapes unread."""
    connection.exec_driver_sql(text, execution_options={"no_parameters": True})

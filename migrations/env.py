"""Alembic's entry: runs the revisions on the connection that `install.py` opened, or prints them.

The version table stands in schema pageformer, apart from the one of a user's own project.
"""

from functools import partial

from alembic import context

configure = partial(
    context.configure, version_table="alembic_version", version_table_schema="pageformer"
)


def print_revisions() -> None:
    """Write the revisions as SQL; whoever asked for them puts a transaction around."""
    configure(
        dialect_name="postgresql",
        transactional_ddl=False,
        output_buffer=context.config.output_buffer,
    )
    context.run_migrations()


def run_revisions() -> None:
    """Run the revisions inside the transaction of the connection that was handed over."""
    configure(connection=context.config.attributes["connection"])
    context.run_migrations()


if context.is_offline_mode():
    print_revisions()
else:
    run_revisions()

"""Compare the models of a database with those that a project declares, for autogenerate."""

from pathlib import Path
from typing import Any

import psycopg
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import UpgradeOps

from pageformer.migrations import declared, runs
from pageformer.migrations.declared import DeclaredModel
from pageformer.migrations.differences import differences
from pageformer.migrations.implementations import told_by_alembic


def compare(context: AutogenContext, changes: UpgradeOps) -> None:
    """Add what the database lacks of the declared models, and what it has beside them."""
    connection = context.connection
    driver = connection.connection.driver_connection if connection is not None else None
    with told_by_alembic():
        wanted = declared_models(context)
        if wanted is not None and isinstance(driver, psycopg.Connection):
            newest = runs.newest()
            changes.ops.extend(differences(driver, wanted, newest))


def declared_models(context: AutogenContext) -> dict[str, DeclaredModel] | None:
    """Find the declaration: `target_metadata.info`, else pageformer.toml beside alembic.ini."""
    metadata = context.metadata
    for one in metadata if isinstance(metadata, (list, tuple)) else [metadata]:
        info: dict[Any, Any] = getattr(one, "info", {})
        if "pageformer_models" in info:
            return declared.parse(info["pageformer_models"])
    migration = context.migration_context
    environment = migration.environment_context if migration else None
    name = environment.config.config_file_name if environment else None
    file = Path(name).parent / declared.FILE if name else None
    return declared.read(file) if file and file.exists() else None

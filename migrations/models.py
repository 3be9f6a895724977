"""What revisions do to models in a database: by hash, nothing twice, nothing half.

Everything runs in the transaction of whoever calls. Every use of Alembic imports this module; what
takes time to import is imported where it is needed.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pageformer.client import fetch
from pageformer.errors import DuplicateName, InvalidCheckpoint, PageformerError, ServerUnready
from pageformer.loader.source import find_directory
from pageformer.udfs import named_queries

QUERIES = named_queries.read("pageformer.migrations", "operations.sql")

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Content:
    """A version as a revision names it: where its files are, and the hash of what they hold."""

    name: str
    version: str
    source: str
    sha256: str


@dataclass(frozen=True)
class StoredVersion:
    """A version as the database has it."""

    model: str
    id: int
    label: str
    hash: str
    deployed: bool
    source: str
    dimension: int


def stored_versions(connection: Connection) -> list[StoredVersion]:
    """List every version, oldest first."""
    return [StoredVersion(**row) for row in fetch(connection, QUERIES["versions"])]


def load_content(connection: Connection, content: Content) -> None:
    """Make a version that has exactly this content; do nothing when it is there.

    Content that the database has under another name needs no files. Raises DuplicateName for a
    label that has other content, InvalidCheckpoint when the files have.
    """
    versions = stored_versions(connection)
    for version in versions:
        if (version.model, version.label) == (content.name, content.version):
            _check_same(content, version)
            return
    same = [version for version in versions if version.hash == content.sha256]
    with connection.transaction():
        if same:
            _copy(connection, content, same[0])
        else:
            _load_files(connection, content)


def check_at_hand(connection: Connection, contents: list[Content]) -> None:
    """See that everything a downgrade will load is in the database, or its files exist.

    Raises ServerUnready naming what is missing, before anything has been changed.
    """
    stored = {version.hash for version in stored_versions(connection)}
    missing = [c for c in contents if c.sha256 not in stored and not has_files(c.source)]
    if missing:
        named = ", ".join(f"{c.name}@{c.version} from {c.source}" for c in missing)
        raise ServerUnready(
            f"the downgrade needs models that are neither in the database nor at hand: {named}",
            hint="bring their files back to where the revisions name them; nothing was changed",
        )


def has_files(source: str) -> bool:
    """Tell whether the files of a source can be found."""
    with suppress(PageformerError):
        return find_directory(source).exists()
    return False


def resizing(table: str, column: str, dimension: int) -> str:
    """Write the statement that gives a column another dimension, without its vectors."""
    return (
        sql.SQL(QUERIES["resize"])
        .format(
            table=sql.SQL(table), column=sql.Identifier(column), dimension=sql.Literal(dimension)
        )
        .as_string()
    )


def _check_same(content: Content, version: StoredVersion) -> None:
    if version.hash != content.sha256:
        raise DuplicateName(
            f"{content.name}@{content.version} has the content {version.hash[:12]}…, and the "
            f"revision wants {content.sha256[:12]}…",
            hint="A version never changes: give the new content a label of its own.",
        )


def _copy(connection: Connection, content: Content, same: StoredVersion) -> None:
    """Name content that is stored once more."""
    from pageformer.loader.tables import Tables

    with psycopg.RawCursor(connection) as cursor:
        tables = Tables(cursor)
        tables.lock()
        model = tables.find_model(content.name) or tables.insert_model(content.name)
        first = not tables.versions(model.id)
        values = [model.id, content.version, same.id]
        version = fetch(connection, QUERIES["copy_version"], values)[0]["id"]
        cursor.execute(QUERIES["copy_tensors"], [version, same.id])
        if first:
            tables.deploy(model.id, version)


def _load_files(connection: Connection, content: Content) -> None:
    from pageformer.loader.load import load

    loaded = load(connection, content.source, name=content.name, version=content.version)
    if loaded.hash.hex() != content.sha256:
        raise InvalidCheckpoint(
            f"{content.source} has the content {loaded.hash.hex()[:12]}…, and the revision wants "
            f"{content.sha256[:12]}…",
            hint="Bring back the files that the revision was written for.",
        )

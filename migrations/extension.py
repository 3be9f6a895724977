"""Pageformer as an extension of PostgreSQL: its files, and databases that have it.

The files are written from what an install runs. A version is named by the revision of its tables
and by the content of its script, as 0003.5c0e12ab: functions change without a revision. An update
goes over the bare revision: the package that wrote a version also wrote the empty script from it to
its revision, and every package writes scripts from the revisions before to its own version. So no
package need know the versions of others; their files stay in the folder.
"""

from hashlib import sha256
from pathlib import Path

from psycopg import sql
from sqlalchemy import Connection

from pageformer.errors import ServerUnready
from pageformer.migrations import parts, runs
from pageformer.migrations.script import execute

CONTROL = """\
# Written by `pageformer extension`, as are the scripts beside it.
comment = 'transformer encoders inside PostgreSQL'
default_version = '{version}'
requires = 'vector, plpython3u'
schema = pg_catalog
relocatable = false
encoding = 'UTF8'
"""
LEAVE = "-- The tables stay as they are; the next step brings views and functions.\n"
PRESENT = "select extversion from pg_catalog.pg_extension where extname = 'pageformer'"
OFFERED = """
select exists (
    select from pg_catalog.pg_available_extension_versions
    where name = 'pageformer' and version = %s)
"""
REACHABLE = """
select exists (
    select from pg_catalog.pg_extension_update_paths('pageformer')
    where source = %s and target = %s and path is not null)
"""


def write(folder: Path) -> str:
    """Write the files into a server's folder of extensions, and return the version.

    Raises ServerUnready where that cannot be written.
    """
    try:
        for name, text in files().items():
            file = folder / name
            file.write_text(text, encoding="utf-8")
            file.chmod(0o644)
    except OSError as error:
        raise ServerUnready(
            f"cannot write into {folder}: {error.strerror}",
            hint="run it as who may, with sudo for instance, or name a folder: --into FOLDER",
        ) from error
    return version()


def files() -> dict[str, str]:
    """Write everything, by file name; the control file comes last, when its scripts are there."""
    newest = version()
    scripts = {f"{newest}--{runs.newest()}": LEAVE, newest: script()}
    for known in runs.revisions().walk_revisions():
        scripts[f"{known.revision}--{newest}"] = script(known.revision)
    written = {f"pageformer--{name}.sql": text for name, text in scripts.items()}
    return {**written, "pageformer.control": CONTROL.format(version=newest)}


def version() -> str:
    """Name the extension that this package makes."""
    return f"{runs.newest()}.{sha256(script().encode()).hexdigest()[:8]}"


def script(start: str | None = None) -> str:
    """Write the script that creates the extension, or updates it from the revision `start`."""
    return "\n".join(
        [
            parts.script("extension_first.sql"),
            parts.script("prepare.sql"),
            runs.as_sql(start),
            parts.surface(),
            parts.script("extension_last.sql"),
        ]
    )


def present(connection: Connection) -> str | None:
    """Tell the version of the extension in a database that has Pageformer this way."""
    found: str | None = connection.exec_driver_sql(PRESENT).scalar()
    return found


def update(connection: Connection) -> None:
    """Bring the extension to the version of this package, by the scripts that the server has.

    Raises ServerUnready when it has none that lead there.
    """
    old, new = present(connection), version()
    if old == new:
        return
    if not connection.exec_driver_sql(OFFERED, (new,)).scalar_one():
        raise ServerUnready(
            f"the server does not offer version {new} of the extension pageformer",
            hint="write its files on the server, then run this again: pageformer extension",
        )
    if not connection.exec_driver_sql(REACHABLE, (old, new)).scalar_one():
        raise ServerUnready(
            f"the server has no scripts that lead the extension pageformer from {old} to {new}",
            hint="a newer Pageformer may have updated it; or bring back the files of its version",
        )
    statement = sql.SQL("alter extension pageformer update to {}").format(sql.Identifier(new))
    execute(connection, statement.as_string())


def drop(connection: Connection, *, force: bool) -> None:
    """Drop the extension, its tables with it; `force` also drops what others built on it."""
    execute(connection, f"drop extension pageformer {'cascade' if force else 'restrict'}")


def refuse(connection: Connection) -> None:
    """Raise ServerUnready in a database that has Pageformer as an extension."""
    if present(connection):
        raise ServerUnready(
            "this database has Pageformer as an extension, which goes to its newest version only",
            hint="pageformer migrate, without a revision",
        )

"""One line per prerequisite, each with its fix: why encode() works here, or what it still needs."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg

from pageformer import client, server_python
from pageformer.cluster import embedded
from pageformer.embedded import sql_fingerprint
from pageformer.errors import PageformerError
from pageformer.installed_server import SUPPORTED, bin_folder
from pageformer.migrations import runs
from pageformer.terminal import bold, green, red


@dataclass(frozen=True)
class Finding:
    """What was found about one prerequisite; no fix means that it is met."""

    prerequisite: str
    found: str
    fix: str = ""


def report(dsn: str | None) -> bool:
    """Print every finding and say whether all prerequisites are met."""
    met = True
    for finding in findings(dsn):
        mark = red("FIX") if finding.fix else green("ok ")
        fix = f"  -> {bold(finding.fix)}" if finding.fix else ""
        print(f"{mark}  {finding.prerequisite}: {finding.found}{fix}", flush=True)
        met = met and not finding.fix
    return met


def findings(dsn: str | None) -> Iterator[Finding]:
    """Examine the machine when the cluster is the embedded one, then the server."""
    ours = dsn is None and client.chosen_by_environment() == []
    if ours:
        yield from _machine()
    try:
        connection = client.connect(dsn)
    except PageformerError as error:
        yield Finding("server", error.message, error.hint)
        return
    with closing(connection):
        yield from _server(connection)
        yield from _python(connection)
        yield from _schema(connection)
        if ours:
            yield _renewed(connection)


def _machine() -> Iterator[Finding]:
    try:
        programs = bin_folder()
        server_python.check_version(programs)
    except PageformerError as error:
        yield Finding("installed server", error.message, error.hint)
    else:
        yield Finding("installed server", str(programs.parent))


def _server(connection: client.Connection) -> Iterator[Finding]:
    server = client.rows(connection, "server")[0]
    yield Finding("server", f"answers as {server['role']} in {server['database']}")
    supported = f"{SUPPORTED[0]} to {SUPPORTED[-1]}"
    fix = "" if server["major"] in SUPPORTED else f"use PostgreSQL {supported}"
    yield Finding("version", f"PostgreSQL {server['version']}", fix)
    rights = "is a superuser" if server["superuser"] else "is no superuser"
    fix = "" if server["superuser"] else "connect as one to migrate; other commands need none"
    yield Finding("role", f"{server['role']} {rights}", fix)
    yield _extension(connection, "plpython3u", f"postgresql-plpython3-{server['major']}")
    yield _extension(connection, "vector", f"postgresql-{server['major']}-pgvector")


def _extension(connection: client.Connection, name: str, package: str) -> Finding:
    found = client.rows(connection, "extension", [name])
    if not found:
        return Finding(name, "the server does not offer it", f"apt-get install {package}")
    return Finding(name, found[0]["installed_version"] or f"{found[0]['default_version']} on offer")


def _python(connection: client.Connection) -> Iterator[Finding]:
    """Ask the server's own Python, in a transaction that is taken back."""
    try:
        client.run(connection, "create_plpython")
        client.run(connection, "ask_python")
        answer: dict[str, Any] = client.rows(connection, "answer")[0]["answer"]
    except psycopg.Error as error:
        reason = error.diag.message_primary or str(error)
        yield Finding("the server's Python", reason, "let a superuser run pageformer doctor")
        return
    finally:
        connection.rollback()
    yield Finding("the server's Python", ".".join(map(str, answer["python"])))
    fix = "pageformer migrate --site FOLDER, then restart the server with that PYTHONPATH"
    for name, reason in answer["missing"].items():
        yield Finding(f"the server's Python imports {name}", reason, fix)
    if not answer["missing"]:
        yield Finding("the server's Python", "imports everything that it needs")


def _schema(connection: client.Connection) -> Iterator[Finding]:
    wanted = runs.newest()
    found = None
    if client.rows(connection, "revision_table")[0]["found"]:
        found = client.rows(connection, "revision")[0]["revision"]
    connection.rollback()
    fix = "" if found == wanted else "pageformer migrate"
    yield Finding("schema", f"revision {found}" if found else "not installed", fix)


def _renewed(connection: client.Connection) -> Finding:
    """Tell whether server and database have what this checkout holds now."""
    site = client.rows(connection, "running_site")[0]["site"]
    installed = client.rows(connection, "installed")[0]["fingerprint"]
    renewed = site == str(embedded().site) and installed == sql_fingerprint()
    found = "the same in the server and here" if renewed else "changed here since the last start"
    return Finding("sources", found, "" if renewed else "pageformer up")

"""Commands that install the library in a database, and take it out again."""

from pathlib import Path
from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def migrate(
    dsn: Dsn = None,
    revision: Annotated[str, typer.Option(help="Revision to go up to.")] = "head",
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, run nothing.")] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Only copy what the server's Python imports into FOLDER."
        ),
    ] = None,
) -> None:
    """Install or renew Pageformer in a database.

    Needs a superuser: plpython3u is an untrusted language.
    """
    from pageformer import installed_server, server_python
    from pageformer.client import choose_dsn
    from pageformer.migrations import install

    if site:
        current = server_python.publish(site.absolute(), installed_server.bin_folder())
        print(f"start the server with PYTHONPATH={current} in its environment")
    elif sql:
        print(install.offline_sql(), end="")
    else:
        updated = install.upgrade(choose_dsn(dsn), revision)
        print(f"installed: version {updated} of the extension" if updated else "installed")


def extension(
    into: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Else where the installed server finds extensions."),
    ] = None,
) -> None:
    """Write the files of `create extension pageformer cascade`."""
    from pageformer import installed_server
    from pageformer.migrations import extension

    folder = into or installed_server.extension_folder(installed_server.bin_folder())
    print(f"pageformer {extension.write(folder)} in {folder}")


def uninstall(
    dsn: Dsn = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also drop what others built on Pageformer.")
    ] = False,
) -> None:
    """Remove Pageformer from a database."""
    from pageformer.client import choose_dsn
    from pageformer.migrations import install
    from pageformer.terminal import say

    install.uninstall(choose_dsn(dsn), force=force, note=say)
    print("uninstalled")

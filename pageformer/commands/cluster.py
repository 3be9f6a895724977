"""Commands for the cluster: the embedded one, and whichever a command means."""

from collections.abc import Sequence
from typing import Annotated

import typer

from pageformer.commands.options import Dsn


def up(
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Also listen on TCP; needs a password.")
    ] = "",
    foreground: Annotated[
        bool, typer.Option(help="Stay, and stop the server when interrupted.")
    ] = False,
) -> None:
    """Start the embedded cluster, and renew what is old."""
    from pageformer import embedded
    from pageformer.cluster import embedded as own
    from pageformer.terminal import say

    cluster = own()
    embedded.bring_up(cluster, say, listen)
    print(cluster.dsn)
    if foreground:
        embedded.stay(cluster)


def down() -> None:
    """Stop the embedded cluster."""
    from pageformer.cluster import embedded

    cluster = embedded()
    print("stopped" if cluster.stop() else "it was not running")
    cluster.remove_page_cache()


def status(
    dsn: Annotated[
        list[str] | None,
        typer.Option(
            "--dsn", metavar="DSN", help="Tell of this server; repeat it, the primary first."
        ),
    ] = None,
) -> None:
    """Tell whether the embedded cluster runs, or what each server of --dsn has.

    Exits with 3 when the embedded cluster does not run.
    """
    if dsn:
        tell_servers(dsn)
        return
    from pageformer.cluster import embedded

    cluster = embedded()
    running = cluster.running
    state = "running" if running else "stopped" if cluster.exists else "not made yet"
    print(f"state  {state}")
    print(f"home   {cluster.home}")
    if cluster.exists:
        print(f"server {cluster.bin.parent}")
        print(f"log    {cluster.log}")
        print(f"dsn    {cluster.dsn}")
    if not running:
        raise typer.Exit(3)


def tell_servers(dsns: Sequence[str]) -> None:
    """Print a line for each server: its role, how far it is behind, its versions."""
    from pageformer.client import place_of
    from pageformer.scaling.servers import lag, standings
    from pageformer.terminal import table

    table(
        ("server", "role", "behind", "versions (* deployed)"),
        [
            (place_of(one.dsn), one.role, lag(one, bytes), ", ".join(one.versions) or "none")
            for one, bytes in standings(dsns)
        ],
    )


def dsn(dsn: Dsn = None) -> None:
    """Print the connection string in use."""
    from pageformer.client import choose_dsn

    print(choose_dsn(dsn))


def psql(context: typer.Context, dsn: Dsn = None) -> None:
    """Open psql, with psql's own arguments."""
    from pageformer.client import open_psql

    open_psql(dsn, context.args)


def doctor(dsn: Dsn = None) -> None:
    """Check every prerequisite; tell each one's fix."""
    from pageformer import doctor

    if not doctor.report(dsn):
        raise typer.Exit(1)

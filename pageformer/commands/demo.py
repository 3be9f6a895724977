"""The command that shows what Pageformer is for."""

from typing import Annotated

import typer


def demo(
    dsn: Annotated[
        str | None, typer.Option(metavar="DSN", help="Else the embedded cluster.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what the demo made, and nothing else.")
    ] = False,
) -> None:
    """Search PostgreSQL's own descriptions by meaning."""
    from pageformer import demo

    if remove:
        demo.remove(dsn)
    else:
        demo.run(dsn)
